"""Bad input is named by a public function, and ends in an exception, never in a crash, in a direct call."""

import pytest
import torch

from tests.contract.every_op import EVERY_OP

CALLS = {f"{op.name}: {what}": call for op in EVERY_OP for what, call in op.bad_calls.items()}
RAW_CALLS = {f"{op.name}: {what}": call for op in EVERY_OP for what, call in op.bad_raw_calls.items()}


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_named(name):
    call, error, message = CALLS[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", RAW_CALLS)
def test_a_direct_call_with_bad_input_raises(name):
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        RAW_CALLS[name]()


WRONG = {
    "integers": lambda t: t.long(),
    "another dtype": lambda t: t.float(),
    "one dimension more": lambda t: t[None],
    "one row less": lambda t: t[:-1] if t.dim() else t.new_ones(2),
    "one column less": lambda t: t[..., :-1] if t.dim() else t.new_ones(0),
    "twice": lambda t: torch.cat([t, t]) if t.dim() else t.new_ones(1),
}


def derivative_calls(op):
    """(name, raw op, arguments, place of a tensor) of every tensor of the derivatives, as constants."""
    for i, (raw, arguments) in enumerate(op.raw_calls()):
        if "backward" in str(raw):
            arguments = [detached(a) for a in arguments]
            for place, (argument, of_schema) in enumerate(zip(arguments, raw.default._schema.arguments, strict=True)):
                if isinstance(argument, (torch.Tensor, list)):
                    yield f"{i}: {of_schema.name} of {str(raw).split('.')[-1]}", raw, arguments, place


def detached(argument):
    if isinstance(argument, list):
        return [a.detach() if isinstance(a, torch.Tensor) else a for a in argument]
    return argument.detach() if isinstance(argument, torch.Tensor) else argument


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_a_direct_call_of_a_derivative_with_one_wrong_tensor_raises(op, wrong):
    """All of the tensors of a derivative belong together: none can change alone."""
    assert passed_with_one_wrong_tensor(op, wrong) == []


def passed_with_one_wrong_tensor(op, wrong):
    """The names of what a derivative took although it is wrong."""
    passed = []
    for name, raw, arguments, place in derivative_calls(op):
        good = arguments[place]
        if isinstance(good, list) and not isinstance(good[0], torch.Tensor):
            continue
        bad = [WRONG[wrong](good[0]), *good[1:]] if isinstance(good, list) else WRONG[wrong](good)
        try:
            raw(*arguments[:place], bad, *arguments[place + 1 :])
            passed += [name] if name.split(": ")[1] not in op.free else []
        except (RuntimeError, ValueError, TypeError):
            pass
    return passed


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_a_direct_call_of_a_derivative_with_lists_of_another_length_raises(op):
    for _, raw, arguments, place in derivative_calls(op):
        if isinstance(arguments[place], list):
            with pytest.raises(RuntimeError):
                raw(*arguments[:place], [], *arguments[place + 1 :])
