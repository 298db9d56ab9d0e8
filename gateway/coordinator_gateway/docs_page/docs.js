// Shows /api/openapi.json and sends requests. Text goes in as text, never as markup.

const spec = await (await fetch("/api/openapi.json")).json();
const schemas = spec.components.schemas;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function resolve(schema) {
  if (schema?.$ref) return schemas[schema.$ref.split("/").at(-1)];
  if (schema?.anyOf) return resolve(schema.anyOf[0]);
  return schema ?? {};
}

function typeName(schema) {
  if (schema?.$ref) return schema.$ref.split("/").at(-1);
  if (schema?.anyOf) return schema.anyOf.map(typeName).join(" | ");
  if (schema?.type === "array") return `${typeName(schema.items)}[]`;
  if (schema?.additionalProperties?.type) return `map of ${typeName(schema.additionalProperties)}`;
  return [schema?.type].flat().filter(Boolean).join(" | ") || "any";
}

function example(schema, depth = 0) {
  const known = resolve(schema);
  if (known.enum) return known.enum.at(1) ?? known.enum[0];
  const type = [known.type].flat()[0];
  if (type === "object" && known.properties && depth < 6) {
    const fields = Object.entries(known.properties).filter(([, field]) => !field.readOnly);
    return Object.fromEntries(fields.map(([name, field]) => [name, example(field, depth + 1)]));
  }
  if (type === "object") return {};
  if (type === "array") return depth < 6 ? [example(known.items, depth + 1)] : [];
  if (known.format === "date-time") return new Date().toISOString();
  return { integer: 0, number: 0, boolean: false }[type] ?? "";
}

function fieldTable(rows) {
  const body = rows.map(([name, schema, text, input]) =>
    element("tr", {},
      element("td", {}, element("code", {}, name)),
      element("td", {}, typeName(schema)),
      element("td", {}, text ?? ""),
      ...(input ? [element("td", {}, input)] : [])));
  return element("table", {}, ...body);
}

function properties(schema) {
  const known = resolve(schema?.type === "array" ? schema.items : schema);
  return Object.entries(known.properties ?? {}).map(([name, field]) =>
    [name, field, field.description ?? resolve(field).description]);
}

async function send(verb, path, inputs, body, output) {
  let target = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const [parameter, input] of inputs) {
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value === "") continue;
    else if (parameter.in === "header") headers[parameter.name] = input.value;
    else if (parameter.schema.type === "array") input.value.split(",").forEach((v) => query.append(parameter.name, v.trim()));
    else query.append(parameter.name, input.value);
  }
  const authorization = document.getElementById("authorization").value.trim();
  if (authorization) headers.Authorization = authorization;
  if (body) headers["Content-Type"] = "application/json";
  const url = query.size ? `${target}?${query}` : target;
  output.textContent = `${verb} ${url}\n…`;
  try {
    const stop = new AbortController();
    const response = await fetch(url, { method: verb, headers, body: body?.value, signal: stop.signal });
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
      output.textContent = "";
      setTimeout(() => stop.abort(), 60_000);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) output.textContent += part.value;
      return;
    }
    const text = await response.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it is */ }
    output.textContent = `${response.status} ${response.statusText}\n\n${shown}`;
  } catch (error) {
    output.textContent += `\n${error}`;
  }
}

function operationView(verb, path, operation) {
  const inputs = (operation.parameters ?? []).map((parameter) => [parameter, element("input", { "aria-label": parameter.name })]);
  const bodySchema = operation.requestBody?.content["application/json"].schema;
  const body = bodySchema && element("textarea", { "aria-label": "Request body", spellcheck: "false" });
  if (body) body.value = JSON.stringify(example(bodySchema), null, 2);
  const answer = operation.responses["200"];
  const answerSchema = answer.content?.["application/json"]?.schema;
  const output = element("pre", {});
  const content = element("div", {}, element("p", {}, operation.description ?? operation.summary ?? ""));
  if (inputs.length) content.append(element("h4", {}, "Parameters"), fieldTable(inputs.map(([p, input]) => [`${p.name} (${p.in})`, p.schema, p.description, input])));
  if (body) content.append(element("h4", {}, "Body"), fieldTable(properties(bodySchema)), body);
  content.append(element("h4", {}, "Answer"), element("p", {}, answer.description));
  if (answerSchema) content.append(element("p", {}, element("code", {}, typeName(answerSchema))), fieldTable(properties(answerSchema)));
  content.append(element("button", { type: "button", onclick: () => send(verb, path, inputs, body, output) }, "Send"), output);
  return element("details", {},
    element("summary", {}, element("span", { class: "verb" }, verb), element("span", { class: "path" }, path), element("span", { class: "summary" }, operation.summary ?? "")),
    content);
}

document.getElementById("credentials").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("description").textContent = spec.info.description;
const groups = new Map();
for (const [path, verbs] of Object.entries(spec.paths)) {
  for (const [verb, operation] of Object.entries(verbs)) {
    const tag = operation.tags[0];
    if (!groups.has(tag)) groups.set(tag, []);
    groups.get(tag).push(operationView(verb.toUpperCase(), path, operation));
  }
}
const main = document.getElementById("operations");
main.replaceChildren();
for (const [tag, views] of groups) {
  const text = spec.tags.find((item) => item.name === tag)?.description ?? "";
  main.append(element("section", {}, element("h2", {}, tag), element("p", {}, text), ...views));
}
