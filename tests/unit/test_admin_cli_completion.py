"""Completion scripts in the shells that they are for."""

import shutil
import subprocess
from pathlib import Path

import pytest

from coordinator.admin.completion import script
from coordinator.cli import build_parser
from coordinator.domain.states import STATES
from coordinator.domain.terms import SCORING_FIELDS

BASH = shutil.which("bash")
ZSH = shutil.which("zsh")

COMMANDS = {
    *("create", "list", "show", "inspect", "watch", "cancel", "pause", "resume", "retry", "entries"),
    *("leaderboard", "keymeld", "wallet", "whoami", "attest", "completion"),
}
# What is typed before the cursor (the last word is being completed) -> what is offered.
CASES: list[tuple[str, set[str]]] = [
    ("coordinator ", {"serve", "admin"}),
    ("coordinator adm", {"admin"}),
    ("coordinator admin ", COMMANDS),
    ("coordinator admin --json ", COMMANDS),
    ("coordinator admin --address host:1 --timeout 5 ", COMMANDS),
    ("coordinator admin l", {"list", "leaderboard"}),
    ("coordinator admin wallet ", {"balance", "address", "outputs", "send", "fees"}),
    ("coordinator admin --json wallet f", {"fees"}),
    ("coordinator admin watch x --until ", set(STATES)),
    ("coordinator admin watch --until aw", {state for state in STATES if state.startswith("aw")}),
    ("coordinator admin create --metric ", set(SCORING_FIELDS)),
    ("coordinator admin create --name list --st", {"--starts-in", "--starts-at", "--station"}),
    ("coordinator admin completion ", {"bash", "zsh"}),
    ("coordinator --log-level ", {"DEBUG", "INFO", "WARNING", "ERROR"}),
    ("coordinator admin list --address ", set()),
]


def typed(line: str) -> list[str]:
    words = line.split(" ")
    return [word for word in words[:-1] if word] + [words[-1]]


def words_as_array(words: list[str]) -> str:
    return "(" + " ".join(f"'{word}'" for word in words) + ")"


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
@pytest.mark.parametrize(("line", "offered"), CASES)
def test_bash(line: str, offered: set[str], tmp_path: Path) -> None:
    words = typed(line)
    ended = run_bash(
        f"""
        COMP_WORDS={words_as_array(words)} COMP_CWORD={len(words) - 1}
        _coordinator
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """,
        tmp_path,
    )
    assert set(ended.split()) == offered


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
def test_bash_registers_itself_and_completes_files(tmp_path: Path) -> None:
    (tmp_path / "my terms.json").touch()
    assert "-F _coordinator coordinator" in run_bash("complete -p coordinator", tmp_path)
    shown = run_bash(
        """
        COMP_WORDS=(coordinator admin create --file my) COMP_CWORD=4
        _coordinator
        printf '<%s>' "${COMPREPLY[@]}"
        """,
        tmp_path,
    )
    assert shown == "<my terms.json>"


def run_bash(commands: str, folder: Path) -> str:
    assert BASH is not None
    (folder / "completion").write_text(script("bash", build_parser()))
    ended = subprocess.run(
        [BASH, "--norc", "--noprofile", "-eu", "-c", f"source {folder}/completion\n{commands}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=20,
    )
    # compopt only works while a key is being pressed.
    assert ended.stderr == ""
    return ended.stdout


# Says what would be offered instead of drawing it.
_ZSH_STUBS = """
compdef() { registered="$*" }
_describe() { local -a shown; shown=("${(@P)2}"); print -rl -- "${shown[@]%%:*}" }
_files() { print -r -- FILES }
"""


@pytest.mark.skipif(ZSH is None, reason="there is no zsh here")
@pytest.mark.parametrize(("line", "offered"), CASES)
def test_zsh(line: str, offered: set[str], tmp_path: Path) -> None:
    words = typed(line)
    shown = run_zsh(
        f"words={words_as_array(words)}; CURRENT={len(words)}; _coordinator", tmp_path, stubs=_ZSH_STUBS
    )
    # zsh itself leaves out what does not begin with what is typed.
    assert {word for word in shown.split() if word.startswith(words[-1])} == offered


@pytest.mark.skipif(ZSH is None, reason="there is no zsh here")
def test_zsh_loads_with_its_own_completion_system(tmp_path: Path) -> None:
    assert (
        run_zsh("print -r -- $_comps[coordinator]", tmp_path, stubs="autoload -Uz compinit; compinit -u -D\n")
        == "_coordinator\n"
    )
    files = run_zsh(
        "words=(coordinator admin create --file ''); CURRENT=5; _coordinator", tmp_path, stubs=_ZSH_STUBS
    )
    assert files == "FILES\n"


def run_zsh(commands: str, folder: Path, *, stubs: str) -> str:
    assert ZSH is not None
    (folder / "completion").write_text(script("zsh", build_parser()))
    ended = subprocess.run(
        [ZSH, "-f", "-c", f"{stubs}\nsource {folder}/completion\n{commands}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.stderr == ""
    return ended.stdout


def test_scripts_say_nothing_that_a_shell_would_expand() -> None:
    for shell in ("bash", "zsh"):
        text = script(shell, build_parser())
        assert "`" not in text
        assert "@" not in text.replace("$@", "").replace("[@]", "")
