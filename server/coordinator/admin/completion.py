"""Completion scripts for bash and zsh, made from the parser itself so that they cannot fall behind it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """What can stand at a place: some words with what they mean, or a file."""

    words: Mapping[str, str] = field(default_factory=dict)
    files: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what can follow it.

    Attributes:
        path: its words, e.g. `coordinator admin list`.
        options: flag -> help.
        values: flag that takes a value -> what that can be.
        following: subcommands, or a positional argument's choices.
        subcommands: which of those are commands.
    """

    path: str
    options: Mapping[str, str]
    values: Mapping[str, Words]
    following: Mapping[str, str]
    subcommands: Sequence[str]


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The completion script of a shell (`bash` or `zsh`) for a program's parser."""
    commands = list(_commands(parser, parser.prog))
    return _SHELLS[shell](parser.prog, commands)


def _commands(parser: argparse.ArgumentParser, path: str) -> Iterator[Command]:
    options: dict[str, str] = {}
    values: dict[str, Words] = {}
    following: dict[str, str] = {}
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        help_text = _summary(action.help)
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
            summaries = {choice.dest: choice.help for choice in action._get_subactions()}
            following |= {name: _summary(summaries.get(name)) for name in below}
        elif action.option_strings:
            options |= dict.fromkeys(action.option_strings, help_text)
            if action.nargs != 0:
                words = {str(choice): "" for choice in action.choices or ()}
                values |= dict.fromkeys(action.option_strings, Words(words, files=action.type is Path))
        elif action.choices:
            following |= {str(choice): "" for choice in action.choices}
    yield Command(path, options, values, following, list(below))
    for name, subparser in below.items():
        yield from _commands(subparser, f"{path} {name}")


def _summary(help_text: str | None) -> str:
    return (help_text or "").replace("%%", "%").partition("; ")[0].partition(" (")[0]


def _bash(program: str, commands: Sequence[Command]) -> str:
    name = _function(program)
    values, following = [], []
    for command in commands:
        for flag, words in command.values.items():
            what = f"_{name}_files" if words.files else f"_{name}_words {_quoted(' '.join(words.words))}"
            values.append(f"    {_quoted(f'{command.path} {flag}')}) {what}; return ;;")
        plain = _quoted(" ".join(command.following))
        options = _quoted(" ".join(command.options))
        following.append(f"    {_quoted(command.path)}) following={plain} options={options} ;;")
    return _filled(_BASH, program, name, {"WALK": _walk(commands), "VALUES": values, "FOLLOWING": following})


def _zsh(program: str, commands: Sequence[Command]) -> str:
    name = _function(program)
    values, following = [], []
    for command in commands:
        for flag, words in command.values.items():
            what = "_files"
            if not words.files:
                what = f"local -a known=({_described(words.words)}); _describe value known"
            values.append(f"    {_quoted(f'{command.path} {flag}')}) {what}; return ;;")
        following.append(
            f"    {_quoted(command.path)})\n"
            f"      following=({_described(command.following)})\n"
            f"      options=({_described(command.options)}) ;;"
        )
    return _filled(_ZSH, program, name, {"WALK": _walk(commands), "VALUES": values, "FOLLOWING": following})


def _walk(commands: Sequence[Command]) -> list[str]:
    """Cases on "<command> <word>" that find the command of a line: over options' values, into subcommands."""
    skips = [_quoted(f"{command.path} {flag}") for command in commands for flag in command.values]
    lines = [f"      {'|'.join(skips)}) ((i++)) ;;"] if skips else []
    for command in commands:
        for subcommand in command.subcommands:
            path = _quoted(f"{command.path} {subcommand}")
            lines.append(f"      {path}) command={path} ;;")
    return lines


def _filled(template: str, program: str, name: str, lines: Mapping[str, list[str]]) -> str:
    text = template.replace("@NAME@", name).replace("@PROGRAM@", program)
    for place, content in lines.items():
        text = text.replace(f"@{place}@", "\n".join(content))
    return text


def _described(words: Mapping[str, str]) -> str:
    """`word:what it means` for zsh's _describe, where colons in either part are escaped."""
    return " ".join(
        _quoted(word.replace(":", r"\:") + (f":{meaning}" if meaning else ""))
        for word, meaning in words.items()
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _function(program: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in program)


_BASH: Final = """\
# bash completion for @PROGRAM@. Load it with: eval "$(@PROGRAM@ admin completion bash)"
_@NAME@_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

_@NAME@_files() {
  compopt -o filenames 2>/dev/null || true
  mapfile -t COMPREPLY < <(compgen -f -- "$current")
}

_@NAME@() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  local command='@PROGRAM@' following='' options='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$command ${COMP_WORDS[i]}" in
@WALK@
    esac
  done
  case "$command $previous" in
@VALUES@
  esac
  case "$command" in
@FOLLOWING@
  esac
  if [[ $current == -* || -z $following ]]; then
    _@NAME@_words "$options"
  else
    _@NAME@_words "$following"
  fi
}

complete -F _@NAME@ @PROGRAM@
"""

_ZSH: Final = """\
#compdef @PROGRAM@
# zsh completion for @PROGRAM@. Load it after compinit with: eval "$(@PROGRAM@ admin completion zsh)"
_@NAME@() {
  local current=$words[CURRENT] previous=$words[CURRENT-1] command='@PROGRAM@'
  local -a following options
  local -i i
  for ((i = 2; i < CURRENT; i++)); do
    case "$command $words[i]" in
@WALK@
    esac
  done
  case "$command $previous" in
@VALUES@
  esac
  case "$command" in
@FOLLOWING@
  esac
  if [[ $current == -* || $#following -eq 0 ]]; then
    _describe option options
  else
    _describe command following
  fi
}

if [[ $funcstack[1] == _@NAME@ ]]; then
  _@NAME@ "$@"
else
  compdef _@NAME@ @PROGRAM@
fi
"""

_SHELLS: Final[Mapping[str, Callable[[str, Sequence[Command]], str]]] = {"bash": _bash, "zsh": _zsh}
