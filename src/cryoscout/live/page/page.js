// The plain page: verdict, message, next holes and squares, from the API and its socket. All text is set as text.
const at = (id) => document.getElementById(id);
const number = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));
let heard = Date.now();
let run = null;

function rows(body, list) {
  body.replaceChildren(...list.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) row.append(Object.assign(document.createElement("td"), { textContent: String(cell) }));
    return row;
  }));
}

function show(advice) {
  at("verdict").textContent = `${advice.verdict.verb} ${advice.verdict.place}`;
  const [low, high] = advice.interval_80;
  let said = `${advice.good_so_far} good so far, ${number(advice.expected_good, 0)} expected (80 %: ${low} to ${high})`;
  if (advice.target) said += `; ${advice.target.good} wanted, ${number(100 * advice.target.probability, 0)} %`;
  at("number").textContent = said;
  at("why").textContent = `${advice.verdict.sentence} ${advice.why ? advice.why.sentence : ""}`;
  rows(at("next"), advice.holes.map((hole) => [hole.order, hole.hole, hole.square, number(hole.x_um, 1),
    number(hole.y_um, 1), number(hole.p_good, 2), number(hole.minutes, 1)]));
}

async function get(what) {
  const answer = await fetch(`api/v1/${what}`);
  if (!answer.ok) throw new Error(`${what}: ${answer.status}`);
  return answer.json();
}

async function slow() {
  try {
    const [{ squares }, message] = await Promise.all([get("squares"), get("message")]);
    rows(at("squares"), squares.map((row) => [row.square, row.advice, row.planned, row.free, row.good]));
    const worst = message.worst;
    at("message").textContent = worst === null ? "" :
      `${worst.sentence} ${worst.remedy} (since ${worst.since}${message.more ? `, +${message.more}` : ""})`;
  } catch (error) {
    at("message").textContent = `The server did not answer: ${error.message}`;
  }
}

function listen() {
  const address = new URL("api/v1/socket", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.onmessage = async (event) => {
    heard = Date.now();
    const message = JSON.parse(event.data);
    if (message.type === "fetch anew" || (run !== null && run !== message.run_id)) show(await get("advice"));
    else if (message.type === "advice") { show(message.advice); slow(); }
    run = message.run_id;
  };
  socket.onclose = () => setTimeout(listen, 1000);
}

setInterval(() => {
  if (Date.now() - heard > 2000) at("message").textContent =
    `No contact with the server for ${Math.round((Date.now() - heard) / 1000)} s.`;
}, 1000);
setInterval(slow, 10000);
get("advice").then(show).catch((error) => { at("message").textContent = error.message; });
slow();
listen();
