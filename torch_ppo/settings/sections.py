"""The fields of `Config` in their sections, read from its source: for `--help` and docs/parameters.md."""

import ast
import functools
import inspect
import re

from torch_ppo.settings import config as config_module


@functools.cache
def sections() -> tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]:
    """(title, ((field, type, help), ...)) of each `# Title` in the source of `Config`, in its order."""
    source = inspect.getsource(config_module)
    lines = source.splitlines()
    (tree,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Config")
    found: list[tuple[str, list[tuple[str, str, str]]]] = [("Run", [])]
    previous = tree.lineno
    for field, doc in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign):
            continue
        titles = re.findall(r"^    # (.+)$", "\n".join(lines[previous : field.lineno - 1]), re.MULTILINE)
        if titles:
            found.append((titles[-1], []))
        text = " ".join(doc.value.value.split())
        found[-1][1].append((field.target.id, ast.unparse(field.annotation), text))
        previous = doc.end_lineno
    return tuple((title, tuple(fields)) for title, fields in found)
