"""Pages of docs/ run as they stand: their files are written, their commands and their Python executed, in order."""

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w+)\n(?P<code>.*?)\n```", re.DOTALL)
FILE = re.compile(r"`(?P<name>\w+\.(?:py|xml|toml|yml))` (?:is|has) ")
REFUSED = "  # error: "  # after a command that ends with this message


def blocks(page: Path) -> Iterator[tuple[str | None, str, str]]:
    """Of each code block with a language: the file it is to be in or None, the language, the code."""
    for match in BLOCK.finditer(page.read_text()):
        named = FILE.match(match["before"])
        yield named["name"] if named else None, match["language"], match["code"] + "\n"


def run_command(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """`python -m module arguments` in this process."""
    python, option, module, *arguments = shlex.split(line, comments=True)
    assert (python, option) == ("python", "-m")
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    program = importlib.import_module(module)
    if hasattr(program, "__path__"):  # a package has its program in a file of its own
        program = importlib.import_module(f"{module}.__main__")
    program.main()


def run_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str) -> str:
    """The same; what it printed. One that ends in `# error: words` has to be refused with these words."""
    command, refused, words = line.partition(REFUSED)
    if not refused:
        run_command(monkeypatch, command)
        return "".join(capsys.readouterr())
    with pytest.raises(SystemExit) as stopped:
        run_command(monkeypatch, command)
    output = capsys.readouterr()
    assert stopped.value.code == 2 and words.strip() in " ".join(output.err.split()), output.err
    return output.err


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a page in the working folder; what its commands and its Python printed. Its Python is one program."""
    printed, namespace = [], {}
    for file, language, code in blocks(page):
        if file is not None:
            Path(file).write_text(code)
        elif language == "sh":
            printed += [run_line(monkeypatch, capsys, line) for line in code.replace("\\\n", " ").splitlines()]
        elif language != "text":  # which is about files that only a reader has
            assert language == "python", f"{page.name}: a block in {language} is not run"
            exec(compile(code, str(page), "exec"), namespace)  # noqa: S102
            printed.append("".join(capsys.readouterr()))
    return "".join(printed)
