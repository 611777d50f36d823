"""Activation checkpointing: whether a recomputed forward reads the u and v of its own forward.

A recomputation runs in a backward pass. It must not iterate, so u and v are right only if nothing iterated since its
forward. torch numbers autograd's nodes in the order of their creation. The node that runs now is of the recomputed
forward, and its number dates that forward.
"""

from fastgan.ops._torch_private import backward_pass, next_node_number, running_node


class Iterations:
    """The dates of one layer's last two training forwards, as numbers of autograd's nodes."""

    def __init__(self) -> None:
        self.before, self.latest = -1, -1
        self.reading: tuple[int, int] | None = None

    def record(self) -> None:
        """A training forward has iterated."""
        self.before, self.latest = self.latest, next_node_number()

    def check_recomputation(self) -> None:
        """Raise a RuntimeError unless u and v are certainly those of the forward that is recomputed now."""
        node = running_node()
        if node is None:
            own = False
        elif node.name() == "CheckpointFunctionBackward":  # use_reentrant=True: the node came before its forward
            own = self.before <= node._sequence_nr()
        else:  # use_reentrant=False: the node is one of its forward; a second reading had other vectors
            reading = backward_pass(), node._sequence_nr()
            own = self.latest <= reading[1] and reading != self.reading
            self.reading = reading
        if not own:
            raise RuntimeError(
                "a backward pass runs a training forward of a spectrally normalised layer again (activation"
                " checkpointing), but u and v may have iterated since the first run, so that the gradient would be"
                " wrong; call backward before the next training forward of this layer, use the layer once in a"
                " checkpointed function, or leave the layer out of checkpointing"
            )
