// The documentation page, made from the API's own description.
const api = await (await fetch("api/v1/openapi.json")).json();
const fields = (body) => {
  const name = body?.content["application/json"].schema.$ref?.split("/").pop();
  return name ? Object.keys(api.components.schemas[name].properties).join(", ") : "";
};
for (const [path, verbs] of Object.entries(api.paths)) {
  for (const [verb, said] of Object.entries(verbs)) {
    const row = document.createElement("tr");
    const takes = [...(said.parameters ?? []).map((each) => each.name), fields(said.requestBody)].filter(Boolean);
    for (const text of [verb.toUpperCase(), path, said.description ?? "", takes.join(", ")]) {
      row.append(Object.assign(document.createElement("td"), { textContent: text }));
    }
    document.getElementById("paths").append(row);
  }
}
