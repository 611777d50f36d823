"""Settings as text: what a dataclass prints, "R1(gamma=1.0)", is what recipes read back from YAML and from flags."""

import ast
from collections.abc import Mapping
from typing import Any


def parse(text: str, known: Mapping[str, type]) -> Any:
    """The value that text spells: a name in `known` (name -> class), called with literals; "R1" is "R1()".

    Errors: ValueError that says what is wrong with the text. Nothing but `known` is called.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        call: Any = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        name = call.func.id
        arguments = [ast.literal_eval(a) for a in call.args]
        named = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, AttributeError, TypeError):
        raise ValueError(f'expected NAME(field=value, ...), like "R1(gamma=1.0)"; got {text!r}') from None
    if name not in known:
        raise ValueError(f"expected one of {', '.join(known)}; got {name!r}")
    try:
        return known[name](*arguments, **named)
    except TypeError as error:
        raise ValueError(f"{name}: {str(error).partition('() ')[2] or error}") from None
