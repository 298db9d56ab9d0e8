"""Writes src/generated.ts from the gateway's OpenAPI document: types of the API and a method per RPC.

`python clients/typescript/scripts/generate.py` writes the file; with `--check` it only says whether the file
is as it would be written (exit status 1 if not).

A message that the API answers with has every field: the gateway writes them all. The same message in a
request body has only those that a client may set, the required ones required; where both are needed the
latter is called `<Name>Input`.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from coordinator_gateway import api, httprule, openapi
from coordinator_gateway.httprule import Binding, resolve
from coordinator_gateway.protocomments import comments

TARGET = Path(__file__).resolve().parents[1] / "src" / "generated.ts"
_WIDTH = 110
# What a message's schema is called where a request has it.
_INPUT = "Input"
# The DOM has an Event too.
_RENAMED = {"Event": "CompetitionEvent"}
_HEADER = """\
// Written by scripts/generate.py from the gateway's OpenAPI document. Do not edit.

import type { Call, CallOptions, Operation } from "./call.ts";

/** Any JSON object (google.protobuf.Struct). */
export type JsonObject = { [name: string]: unknown };
"""


def main(argv: list[str] | None = None) -> int:
    """Writes or checks the file; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether the file is fresh")
    text = generate()
    if not parser.parse_args(argv).check:
        TARGET.write_text(text, "utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text("utf-8") == text:
        return 0
    print(f"{TARGET} is stale: run {Path(__file__).name}", file=sys.stderr)
    return 1


def generate() -> str:
    """The whole file."""
    bindings = [binding for service in api.services() for binding in httprule.bindings(service)]
    document = openapi.document(bindings)
    return _Generator(document, list(_primary(bindings))).text()


def _primary(bindings: Iterable[Binding]) -> Iterator[Binding]:
    """The first binding of every unary method: the others are further paths to the same."""
    seen = set()
    for binding in bindings:
        name = binding.method.full_name
        if name not in seen and not binding.method.server_streaming:
            seen.add(name)
            yield binding


class _Generator:
    def __init__(self, document: Mapping[str, Any], bindings: list[Binding]) -> None:
        self.schemas: Mapping[str, Any] = document["components"]["schemas"]
        self.paths: Mapping[str, Any] = document["paths"]
        self.bindings = bindings
        # Messages that occur in request bodies, in order of appearance.
        self.inputs: dict[str, None] = {}

    def text(self) -> str:
        services = "\n".join(self._services())
        outputs = "\n".join(self._schema(name) for name in self.schemas if not name.endswith(_INPUT))
        inputs = "\n".join(self._input(name) for name in self._all_inputs())
        return f"{_HEADER}\n{outputs}\n{inputs}\n{services}\n{self._table()}"

    # --- messages ---

    def _schema(self, name: str) -> str:
        schema = self.schemas[name]
        head = _comment(schema.get("description", ""))
        if "enum" in schema:
            values = "\n".join(f'  | "{value}"' for value in schema["enum"])
            return f"{head}export type {_name(name)} =\n{values};\n"
        required = None if name != "Problem" else schema["required"]
        return f"{head}export interface {_name(name)} {self._object(schema, required, self._type)}\n"

    def _input(self, name: str) -> str:
        schema = self.schemas[f"{name}{_INPUT}"]
        head = _comment(f"{schema.get('description', '')} As a request has it.".strip())
        body = self._object(schema, schema.get("required", []), self._input_type, writable=True)
        return f"{head}export interface {_name(name)}{_INPUT} {body}\n"

    def _all_inputs(self) -> list[str]:
        done: list[str] = []
        while pending := [name for name in self.inputs if name not in done]:
            for name in pending:
                done.append(name)
                for property_ in self.schemas[f"{name}{_INPUT}"]["properties"].values():
                    self._input_type(property_)
        return done

    def _object(
        self, schema: Mapping[str, Any], required: list[str] | None, type_of: Any, writable: bool = False
    ) -> str:
        lines = []
        for name, property_ in schema["properties"].items():
            if writable and property_.get("readOnly"):
                continue
            lines.append(_comment(property_.get("description", ""), "  ").rstrip("\n"))
            mark = "" if required is None or name in required else "?"
            lines.append(f"  {name}{mark}: {type_of(property_)};")
        body = "\n".join(line for line in lines if line)
        return f"{{\n{body}\n}}" if body else "{}"

    def _type(self, schema: Mapping[str, Any], ref: Any = None) -> str:
        ref = ref or (lambda name: _name(name))
        if "$ref" in schema:
            return str(ref(schema["$ref"].rpartition("/")[2]))
        if "anyOf" in schema:
            return " | ".join(self._type(choice, ref) for choice in schema["anyOf"])
        if "enum" in schema:
            return " | ".join(f'"{value}"' for value in schema["enum"])
        kinds = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
        return " | ".join(self._single(kind, schema, ref) for kind in kinds)

    def _single(self, kind: str | None, schema: Mapping[str, Any], ref: Any) -> str:
        match kind:
            case "array":
                item = self._type(schema["items"], ref)
                return f"({item})[]" if " " in item else f"{item}[]"
            case "object" if "properties" in schema:
                return self._object(schema, None, lambda inner: self._type(inner, ref)).replace("\n", " ")
            case "object":
                values = schema.get("additionalProperties")
                if isinstance(values, Mapping):
                    return f"{{ [key: string]: {self._type(values, ref)} }}"
                return "JsonObject"
            case "integer":
                return "number"
            case "string" | "number" | "boolean" | "null":
                return kind
            case None:
                return "unknown"
        raise ValueError(f"no TypeScript type for {schema}")

    def _input_type(self, schema: Mapping[str, Any]) -> str:
        def ref(name: str) -> str:
            if "enum" in self.schemas[name]:
                return _name(name)
            message = name.removesuffix(_INPUT)
            self.inputs[message] = None
            return f"{_name(message)}{_INPUT}"

        return self._type(schema, ref)

    # --- methods ---

    def _services(self) -> Iterator[str]:
        for service in api.services():
            bindings = [b for b in self.bindings if b.method.containing_service is service]
            if not bindings:
                continue
            for binding in bindings:
                yield self._request(binding)
            text = comments().get(service.full_name, "")
            methods = "\n".join(self._method(binding) for binding in bindings)
            yield (
                f"{_comment(text)}export class {service.name} {{\n"
                "  readonly #call: Call;\n\n"
                f"  constructor(call: Call) {{\n    this.#call = call;\n  }}\n{methods}}}\n"
            )
        names = [
            s.name for s in api.services() if any(b.method.containing_service is s for b in self.bindings)
        ]
        members = "\n".join(f"  readonly {_member(name)}: {name};" for name in names)
        made = "\n".join(f"    this.{_member(name)} = new {name}(call);" for name in names)
        yield (
            "/** Every unary method of the API, by service. */\n"
            f"export class Services {{\n{members}\n\n  constructor(call: Call) {{\n{made}\n  }}\n}}\n"
        )

    def _request(self, binding: Binding) -> str:
        operation = self._operation(binding)
        lines = []
        for parameter in operation["parameters"]:
            if parameter["in"] == "header":
                continue
            mark = "" if parameter.get("required") else "?"
            lines.append(_comment(parameter.get("description", ""), "  ").rstrip("\n"))
            lines.append(f"  {parameter['name']}{mark}: {self._input_type(parameter['schema'])};")
        if binding.body == "*":
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            required = schema.get("required", [])
            body = self._object(schema, required, self._input_type, writable=True)
            lines += body[1:-1].strip("\n").split("\n")
        elif binding.body:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            field = resolve(binding.method.input_type, binding.body)[-1]
            lines.append(_comment(comments().get(field.full_name, ""), "  ").rstrip("\n"))
            lines.append(f"  {binding.body}: {self._input_type(schema)};")
        text = "\n".join(line for line in lines if line)
        head = _comment(comments().get(binding.method.input_type.full_name, ""))
        name = binding.method.input_type.name
        if not text:
            return f"{head}export type {name} = Record<string, never>;\n"
        return f"{head}export interface {name} {{\n{text}\n}}\n"

    def _method(self, binding: Binding) -> str:
        operation = self._operation(binding)
        optional = not any(p.get("required") for p in operation["parameters"]) and not (
            binding.body and operation["requestBody"]["required"]
        )
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        name = binding.method.name
        default = " = {}" if optional else ""
        return (
            f"\n{_comment(operation['description'], '  ')}"
            f"  {name[0].lower()}{name[1:]}(\n"
            f"    request: {binding.method.input_type.name}{default},\n    options?: CallOptions,\n"
            f"  ): Promise<{self._type(schema)}> {{\n"
            f"    return this.#call(operations.{operation['operationId']}, request, options);\n  }}\n"
        )

    def _operation(self, binding: Binding) -> Mapping[str, Any]:
        path = binding.path.expand({name: f"{{{name}}}" for name in binding.path.fields})
        operation: Mapping[str, Any] = self.paths[path][binding.verb.lower()]
        return operation

    def _table(self) -> str:
        rows = "\n".join(
            f"  {self._operation(b)['operationId']}: {{\n"
            f'    method: "{b.verb}",\n    path: "{b.path.text}",\n    body: "{b.body}",\n  }},'
            for b in self.bindings
        )
        return (
            "/** How each method goes over HTTP. */\n"
            f"export const operations = {{\n{rows}\n}} satisfies Record<string, Operation>;\n"
        )


def _name(name: str) -> str:
    return _RENAMED.get(name, name)


def _member(service: str) -> str:
    name = service.removesuffix("Service")
    return name[0].lower() + name[1:]


def _comment(text: str, indent: str = "") -> str:
    if not text:
        return ""
    text = text.replace("*/", "* /")
    if "\n" not in text and len(indent) + len(text) + 7 <= _WIDTH:
        return f"{indent}/** {text} */\n"
    lines = [line for part in text.split("\n") for line in _wrapped(part, _WIDTH - len(indent) - 3)]
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


if __name__ == "__main__":
    sys.exit(main())
