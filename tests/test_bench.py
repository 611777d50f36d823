"""fastgan.bench: numbers are compared before they are timed."""

import json
from dataclasses import replace

import pytest
import torch

from fastgan import bench, cli

SMALL = {"attention": (2, 1, 6, 5, 3, 4), "grad_norm_penalty": (4, 2, 3, 3)}


@pytest.mark.parametrize("op", bench.BENCHMARKS)
def test_every_op_gives_times_errors_and_shares(op):
    ceiling, rows = bench.bench(op, SMALL.get(op, (2, 4, 3, 3)), seconds=0.01)
    assert [(row.measured, row.implementation) for row in rows] == [
        (measured, name) for measured in bench.PASSES for name in ("fastgan", "eager")
    ]
    assert all(row.seconds > 0 and 0 <= row.error < 1e-5 and row.share > 0 for row in rows)
    assert ceiling.bytes > 1e8 and ceiling.operations > 1e8


def test_wrong_numbers_are_not_timed(monkeypatch):
    right = bench.BENCHMARKS["bias_act"]
    wrong = replace(right, ours=lambda x, bias: right.ours(x, bias) * 1.001)
    monkeypatch.setitem(bench.BENCHMARKS, "bias_act", wrong)
    with pytest.raises(bench.WrongNumbers, match=r"bias_act, forward: error 0\.001"):
        bench.bench("bias_act", (2, 4, 3, 3), seconds=0.01)


def test_a_pass_that_a_peer_cannot_do_is_said(monkeypatch):
    def once(x, bias):
        if torch.is_grad_enabled():
            raise NotImplementedError("no derivative")
        return right.eager(x, bias)

    right = bench.BENCHMARKS["bias_act"]
    monkeypatch.setattr(bench, "_compiled", lambda measured, f, arguments: bench._plain(measured, once, arguments))
    _, rows = bench.bench("bias_act", (2, 4, 3, 3), against=["compile"], seconds=0.01)
    peers = [row for row in rows if row.implementation == "compile"]
    assert [row.seconds is None for row in peers] == [False, True, True] and "no derivative" in peers[1].note


def test_the_command_prints_json_or_one_line(capsys):
    assert cli.main(["bench", "--op", "bias_act", "--shape", "2,4,3,3", "--seconds", "0.01", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 6 and rows[0]["shape"] == [2, 4, 3, 3] and rows[0]["ceiling_bytes"] > 0
    for arguments, words in (
        (["--shape", "2,4"], "shape of attention must be B,H,N,M,D,Dv"),
        (["--shape", "a"], "shape must be integers"),
        (["--against", "cudnn"], "against must be among eager, compile"),
    ):
        assert cli.main(["bench", *arguments]) == 2
        assert words in capsys.readouterr().err
