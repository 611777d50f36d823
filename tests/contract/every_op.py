"""The list of the ops that the suite tests."""

from tests.contract import attention, bias_act, grad_norm_penalty, normalize, spectral_norm

EVERY_OP = (attention.OP, bias_act.OP, grad_norm_penalty.OP, normalize.OP, spectral_norm.OP)


def listed(*kinds, ops=EVERY_OP):
    """{id: (op, case)} of the ops' cases of these kinds: "tiny", "cases", "large"."""
    found = [
        (f"{op.name}: {case.name}{'' if kind == 'cases' else f', {kind}'}", (op, case))
        for op in ops
        for kind in kinds
        for case in getattr(op, kind)
    ]
    assert len(dict(found)) == len(found), "two cases of one name"
    return dict(found)
