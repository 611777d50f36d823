"""The gradients of a critic's loss and its penalties, a gradient penalty included, in four passes of the critic.

A step that shares one forward between loss and penalty makes six passes through the critic's layers: forward, data
gradient, tangent, weight gradient, data gradient, weight gradient. Where the critic is piecewise linear in its input
and gives one logit a sample, the data gradients of loss and penalty differ by one number a sample. Four passes are
then enough, and exact:

    dW = sum_i delta_i (x) (l'_i a_i + t_i)        db = sum_i l'_i delta_i

a_i is the input of a linear map, delta_i the cotangent of its output for a logit's cotangent of 1, l'_i the derivative
of the loss with respect to logit i, t_i the tangent at the map's input when the input moves along the penalty's
derivative with respect to the input gradient.

`graph` finds the steps in the autograd graph and proves the conditions, `nodes` says which nodes of a graph meet them,
`tangents` and `linear` have the tangents, `maps` the parameters' gradients, `visit` runs the passes, `backward` is the
public function.
"""

from fastgan.penalties.four_passes.backward import Gradients, backward

__all__ = ["Gradients", "backward"]
