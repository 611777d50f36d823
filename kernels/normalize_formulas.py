"""The formulas that both ways of normalising on the GPU share; the letters are those of csrc/cpu/normalize/passes.h."""

import triton
import triton.language as tl


@triton.jit
def inverse_deviation(var, eps, A: tl.constexpr):
    return 1.0 / tl.sqrt(var + tl.cast(eps, A))


@triton.jit
def second_order_factors(r, p, q, t, s, ha, b, bx):
    """(ac, ax, x0, xx, xh, xa): d_a = r h + ac + ax xc, and d_x = x0 + xx xc + xh h + xa a + r w g.

    p = <h>, q = r <h xc>, t = <a>, s = r <a xc>, ha = <h a>, b = <w g>, bx = r <w g xc> with <.> the row's mean,
    xc = x - mean, a = gamma g, and w the cotangent of dgamma.
    """
    x0 = r * r * (s * p + q * t) - r * b
    xx = -r * r * r * (ha - p * t - 3.0 * q * s) - r * r * bx
    return -r * p, -r * r * q, x0, xx, -r * r * s, -r * r * q
