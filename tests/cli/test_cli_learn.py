"""`cryoscout learn`: trains, goes on, says how to use what it made; every wrong input is one clear line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cryoscout.cli import learn as command
from cryoscout.learning.settings import settings_of
from cryoscout.learning.training import Training
from cryoscout.learning.weights import read_policy

TINY = "--epochs 1 --steps-per-epoch 150 --budget-min 60"


@pytest.fixture
def second(once):
    """Another simulated session."""
    return once("simulate --preset small --holes 200 --seed 2 -o two.session")


@pytest.fixture
def learned(sim, once):
    """The folder of a policy that was trained on the session `sim.session` beside it."""
    return once(f"learn sim.session {TINY} --out mine")


def without_seconds(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    return rows


def test_a_training_writes_a_policy_that_plan_and_replay_take(cli, sim):
    answer = cli(f"learn sim.session {TINY} --out mine")
    assert answer.code == 0
    assert "Wrote mine/policy.safetensors: dqn on simulated, epoch 1 of 1" in answer.out
    assert re.search(
        r"^Trained in (bfloat16|float32) \(auto\); it plans in float32$", answer.out, re.MULTILINE
    )
    assert "cryoscout plan sim.session --budget-min 240 --policy mine" in answer.out
    assert "cryoscout replay sim.session --policies mine,adaptive --starts-from eliminated" in answer.out
    assert "epoch 1/1" in answer.err
    assert "of the bound" in answer.err

    told = json.loads(
        cli(
            "replay sim.session --policy mine,mine@flat --starts-from eliminated --starts 3 --budget-min 60 --json"
        ).out
    )
    row = told["policies"]["mine"]
    assert (row["kind"], row["prediction"]) == ("learned", "simulated")
    assert 0 < row["good_mean"][0] <= row["bound_mean"][0]
    assert told["policies"]["mine@flat"]["prediction"] == "flat"
    plan = json.loads(
        cli("plan sim.session --as-new --budget-min 60 --policy mine/policy.safetensors --json").out
    )
    assert plan["policy"] == "mine/policy.safetensors"
    assert len(plan["holes"]) > 0
    assert plan["minutes_used"] <= 60


@pytest.mark.slow
def test_a_report_takes_a_policy(cli, learned):
    report = cli("report sim.session --policies greedy,mine --starts 2 --budget-min 60 --json -o page.html")
    assert "mine@simulated" in json.loads(report.out)["policies"]


FLATTERED = "mine was trained on holes of this session: the figures flatter it."


def test_a_policy_replayed_on_the_holes_it_was_trained_on_says_so(cli, learned, second):
    few = "--starts 2 --budget-min 60"
    assert f"Note: {FLATTERED}" in cli(f"replay sim.session --policy greedy,mine {few}").out
    assert FLATTERED not in cli(f"replay {second} --policy mine {few}").out
    assert FLATTERED not in cli(f"replay sim.session --policy greedy {few}").out


@pytest.mark.slow
def test_a_report_of_a_policy_on_the_holes_it_was_trained_on_says_so(cli, learned):
    few = "--starts 2 --budget-min 60"
    assert cli(f"report sim.session --policies greedy,mine {few} -o page.html").code == 0
    assert FLATTERED in Path("page.html").read_text()


@pytest.mark.slow
def test_a_policy_of_the_later_split_says_so_on_the_validation_holes_of_the_paper(cli):
    for session in ("y1", "y1-2022"):
        assert cli(f"learn {session} {TINY} --out {session}").code == 0
        assert read_policy(Path(session, "policy.safetensors")).notes["trained_on"] == [
            {"dataset": session, "split": "train"}
        ]
    told = cli("replay y1 --policy y1,y1-2022,dqn-y1 --starts 2 --budget-min 60 --json").out
    flattered = [note for note in json.loads(told)["notes"] if "flatter" in note]
    assert flattered == [FLATTERED.replace("mine", "y1-2022")]


def test_y1_is_learned_on_res18_with_the_reason_unless_another_is_named(cli):
    told = json.loads(cli(f"learn y1 {TINY} --out mine --json").out)
    assert told["prediction"] == ["res18"]
    assert ["res50 is right on every training hole" in note for note in told["notes"]] == [True]
    named = json.loads(cli(f"learn y1 --prediction res50 {TINY} --out named --json").out)
    assert (named["prediction"], named["notes"]) == (["res50"], [])


def test_several_sessions_are_learned_from_at_once_and_the_json_says_all(cli, sim, second):
    answer = cli(
        f"learn sim.session {second} --agent double --no-elimination {TINY} --seed 3 --out both --json"
    )
    assert answer.code == 0
    told = json.loads(answer.out)
    assert (told["policy"], told["agent"], told["epochs"]) == ("both/policy.safetensors", "double", 1)
    assert told["sessions"] == ["sim.session", "two.session"]
    assert told["prediction"] == ["simulated", "simulated"]
    assert told["settings"]["agent"]["double"]
    assert (told["settings"]["elimination"], told["settings"]["seed"]) == (False, 3)
    assert 0 < told["held_out_share_of_bound"] <= 1
    notes = read_policy(Path("both/policy.safetensors")).notes
    assert (notes["sessions"], notes["prediction"]) == (["sim.session", "two.session"], "simulated")


def test_a_stopped_training_says_how_to_go_on_and_ends_as_if_it_had_not_been_stopped(cli, sim, monkeypatch):
    whole = "--epochs 2 --steps-per-epoch 150 --budget-min 60"
    assert cli(f"learn sim.session {whole} --out whole").code == 0

    judge = Training._judge

    def interrupted(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return judge(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_judge", interrupted)
        answer = cli(f"learn sim.session {whole} --out part")
    assert answer.code == 130
    assert "Go on with:\n  cryoscout learn sim.session --out part --resume\n" in answer.err
    again = cli("learn sim.session --out part --resume")
    assert again.code == 0
    assert without_seconds(Path("part")) == without_seconds(Path("whole"))
    assert Path("part/policy.safetensors").read_bytes() == Path("whole/policy.safetensors").read_bytes()


def test_the_command_to_go_on_names_everything_that_is_not_in_the_folder():
    request = command.LearnRequest(("y1", "a b.session"), "val", "res18", True, Path("my out"), False, False)
    assert request.command_to_go_on() == (
        "cryoscout learn y1 'a b.session' --out 'my out' --resume --split val --prediction res18 --draws"
    )


def test_a_training_goes_on_with_the_same_data_and_settings_only(cli, learned, second):
    again = cli(f"learn sim.session {TINY} --out mine")
    assert again.code == 2
    assert "--out must be a folder without a training. Got mine instead." in again.err
    other = cli(f"learn {second} --out mine --resume")
    assert other.code == 2
    assert "must be of a run on the same sessions" in other.err
    seed = cli("learn sim.session --out mine --resume --seed 9")
    assert seed.code == 2
    assert "must be of a run with the same settings" in seed.err
    # The refused ones changed nothing: it still goes on.
    assert cli("learn sim.session --out mine --resume").code == 0
    fresh = cli(f"learn sim.session {TINY} --out new --resume")
    assert fresh.code == 0
    assert "new holds no training to go on from; one is begun." in fresh.err


def test_a_settings_file_holds_everything_and_options_change_it(cli, sim):
    assert cli(f"learn sim.session --agent rainbow {TINY} --out first").code == 0
    answer = cli(
        "learn sim.session --settings first/settings.json --seed 5 --history candidate --out second --json"
    )
    told = json.loads(answer.out)
    assert told["agent"] == "rainbow"
    assert (told["settings"]["seed"], told["settings"]["epochs"]) == (5, 1)
    assert told["settings"]["view"]["history"] == "candidate"
    other = cli("learn sim.session --settings first/settings.json --agent dqn --out third")
    assert other.code == 2
    assert (
        "The agent must be the one of first/settings.json, 'rainbow'. Got --agent dqn instead." in other.err
    )


def test_draws_need_no_outcomes_and_a_flat_prior_is_said(cli, sim):
    answer = cli(f"learn sim.session {TINY} --draws --prediction flat --out drawn --json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert told["draws"]
    assert told["prediction"] == ["flat"]


def test_a_resume_without_out_takes_the_settings_of_the_default_folder(cli, sim):
    assert cli(f"learn sim.session --agent nstep {TINY} --seed 4").code == 0
    again = cli("learn sim.session --agent nstep --resume --json")
    assert again.code == 0
    told = json.loads(again.out)
    assert (told["policy"], told["epochs"]) == ("learned-nstep-sim/policy.safetensors", 1)
    assert (told["settings"]["seed"], told["settings"]["steps_per_epoch"]) == (4, 150)


def test_settings_of_a_training_stopped_before_its_first_checkpoint_are_written_anew(cli, sim, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_judge", interrupted)
        assert cli(f"learn sim.session {TINY} --out part").code == 130
    assert cli("learn sim.session --out part --resume --seed 7").code == 0
    assert json.loads(Path("part/settings.json").read_text())["seed"] == 7
    assert cli("learn sim.session --out part --resume").code == 0


@pytest.mark.slow
def test_the_folder_is_named_after_agent_and_session(cli, sim):
    assert cli(f"learn sim.session --agent nstep {TINY}").code == 0
    assert Path("learned-nstep-sim/policy.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("y1 --agent dpn", "The agent must be one of a2c, c51,"),
        ("y1 --agent dpn", "Got 'dpn' instead. Did you mean 'dqn'?"),
        ("y1 --candidates clases", "Did you mean 'classes'?"),
        ("y1 --labels sft", "--labels must be one of hard, soft. Got 'sft' instead. Did you mean 'soft'?"),
        ("y1 --history visitd", "Did you mean 'visited'?"),
        ("y1 --split trian", "Did you mean 'train'?"),
        ("y1 --prediction res51", "Did you mean 'res50'?"),
        ("y2", "The session must be one of y1, y1-2022. Got 'y2' instead."),
        ("y1 y1-2022", "Only one of y1, y1-2022 must be learned from"),
        (
            "y1 --budget-min 1",
            "The budget of a training must hold a visit: 2 minutes or more. Got 1 instead.",
        ),
        ("y1 --budget-min -3", "--budget-min must be allowed by the settings"),
        ("y1 --budget-min nan", "--budget-min must be allowed by the settings"),
        ("y1 --learning-rate 0", "--learning-rate must be allowed by the settings"),
        ("y1 --settings none.json", "none.json must be readable"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, options, message):
    answer = cli(f"learn {options} --out mine")
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert not Path("mine").exists()


def test_a_settings_file_that_is_not_one_is_named_with_its_field(cli):
    Path("wrong.json").write_text('{"epohs": 3}')
    answer = cli("learn y1 --settings wrong.json")
    assert answer.code == 2
    assert answer.err.startswith("wrong.json: epohs: Extra inputs are not permitted.")


def test_the_help_says_the_true_defaults(cli):
    words = " ".join(cli("learn --help").out.replace("│", " ").split())
    defaults = settings_of("dqn")
    for default in (
        f"Time of a training route: minutes, or 4h, 4:00. Default: {defaults.budget_min:g}.",
        f"Epochs. Default: {defaults.epochs}.",
        f"Visits each. Default: {defaults.steps_per_epoch}.",
        f"Of Adam, above 0. Default: {defaults.learning_rate:g}.",
        f"Seed of everything drawn. Default: {defaults.seed}.",
        f"Default: {defaults.view.candidates}.",
        f"Default: {defaults.view.labels}.",
        f"Default: {defaults.view.history}.",
    ):
        assert default in words
    assert defaults.elimination
    assert "Split of a built-in session: train, val or all. Default: train." in words


def test_an_out_that_is_a_file_is_refused(cli, sim):
    Path("taken").write_text("mine")
    answer = cli(f"learn sim.session {TINY} --out taken")
    assert answer.code == 2
    assert "--out must be a folder. Got the file taken instead." in answer.err


def test_a_loss_that_is_no_number_is_one_line(cli, sim, monkeypatch):
    from cryoscout.learning.q_learning import QLearner, UpdateResult

    monkeypatch.setattr(QLearner, "update", lambda *_: UpdateResult(float("nan"), 0.0, None))
    answer = cli(f"learn sim.session {TINY} --out mine")
    assert answer.code == 2
    assert "The loss of training must be a number." in answer.err


@pytest.mark.parametrize(
    ("more", "codes"),
    [
        ("", "2"),
        pytest.param(
            ", main(['plan', 'y1', '--budget-min', '20', '--policy', 'index', '--json'])",
            "2 0",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_without_torch_the_remedy_is_named_and_planning_goes_on(tmp_path, more, codes):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from cryoscout.cli.main import main\n"
        f"print(main(['learn', 'y1']){more})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stderr.startswith(
        'Learning must have torch. Got none installed instead. Remedy: pip install "cryoscout[learn]".\n'
    )
    assert done.stdout.splitlines()[-1] == codes


def test_tensorboard_is_asked_for_before_the_work(cli, sim, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    answer = cli(f"learn sim.session {TINY} --tensorboard --out mine")
    assert answer.code == 2
    assert 'pip install "cryoscout[tensorboard]"' in answer.err
    assert not Path("mine").exists()


def test_tensorboard_gets_the_figures_of_every_epoch(cli, sim, monkeypatch):
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == "mine/tensorboard"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    monkeypatch.setattr(command, "_summary_writer", lambda: Writer)
    assert cli(f"learn sim.session {TINY} --epochs 2 --tensorboard --out mine").code == 0
    shares = [row["held_out_share_of_bound"] for row in without_seconds(Path("mine"))]
    assert [value for name, value, _ in written if name == "held_out_share_of_bound"] == shares
    assert [step for name, _, step in written if name == "held_out_share_of_bound"] == [150, 300]
    assert written[-1][0] == "closed"
