"""The README and docs/paper.md: snippets run, every bsqc command line parses, every link leads somewhere."""

import re
import shlex
from pathlib import Path

import click
import pytest
from bsqc.main import cli

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PAPER = (REPOSITORY / "docs" / "paper.md").read_text()
SHELL = "\n".join(
    re.findall(r"^```sh\n(.*?)^```", README + PAPER, re.MULTILINE | re.DOTALL)
    + [
        word
        for row in re.findall(r"^\|.*", PAPER, re.MULTILINE)
        for word in re.findall(r"`(bsqc [^`]+ -[^`]+)`", row)
    ]
    + re.findall(r"^    (bsqc .*|make .*)$", README, re.MULTILINE)
)


def commands() -> list[list[str]]:
    """The words of every call of bsqc, pipes and && taken apart."""
    found = []
    for line in SHELL.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;<>()"):
                found += [words] if words[:1] == ["bsqc"] else []
                words = []
            else:
                words.append(word)
    return found


def test_there_is_something_to_test() -> None:
    assert len(SNIPPETS) >= 3
    assert {words[1] for words in commands()} >= {"encode", "decode", "info", "cut", "compare", "train"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse(words: list[str]) -> None:
    command: click.Command = cli
    context = None
    arguments = words[1:]
    while isinstance(command, click.Group):
        context = click.Context(command, parent=context, info_name="bsqc")
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None, name
        command = found
    command.make_context(command.name, arguments, parent=context)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run(
    snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {"__name__": "snippet"})


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(targets) >= 5
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []


def test_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
