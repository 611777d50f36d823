"""The critic's whole loss with its gradient penalty as one compiled graph: fastgan's layers against torch's.

    python -m benchmarks.compiled_critic [--width 64] [--batch 32] [--rounds 7]

Both critics go through fastgan.training.compile_critic_loss, the fair peer of fastgan's kernels. Eager rows are
measured too. Gradients are compared first. Writes benchmarks/results/compiled_critic.csv.
"""

import argparse
import csv

import torch

import fastgan
from benchmarks.critic_step import plain_twin
from benchmarks.interleaved import hardware, interleaved, percentiles, ratio, results
from fastgan import losses, penalties
from fastgan.training import compile_critic_loss
from fastgan.training.step.objective import Objective, terms_of

COLUMNS = "layers mode milliseconds speedup_p20 speedup_median speedup_p80 width batch"
WASSERSTEIN, PENALTIES = losses.get("wasserstein"), (penalties.WGANGP(),)


def gradients_of(critic_loss, critic, batch):
    def run():
        critic.zero_grad(set_to_none=True)
        torch.manual_seed(0)  # the same draws for all
        critic_loss(critic, *batch)[0].backward()
        return torch.cat([p.grad.flatten().double() for p in critic.parameters()])

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    ours = fastgan.models.create("wgan_gp", channels=3, resolution=32, width=args.width, norm="group").discriminator
    critics = {"torch": plain_twin(ours), "fastgan": ours}
    batch = tuple(torch.randn(args.batch, 3, 32, 32).tanh() for _ in range(2))
    eager = Objective(WASSERSTEIN, terms_of(PENALTIES)).discriminator
    runs = {}
    for layers, critic in critics.items():
        runs[layers, "eager"] = gradients_of(eager, critic, batch)
        runs[layers, "compiled"] = gradients_of(compile_critic_loss(WASSERSTEIN, PENALTIES), critic, batch)
    found = {name: run() for name, run in runs.items()}
    reference = found["torch", "eager"]
    for name, gradient in found.items():
        error = ((gradient - reference).norm() / reference.norm()).item()
        print(f"{name[0]:8} {name[1]:9} relative difference from eager torch {error:.1e}")
        if not error < 1e-3:
            raise SystemExit(f"{name}: gradients differ; nothing is timed")
    seconds = interleaved(runs, rounds=args.rounds, seconds_per_turn=0.0)
    about = [hardware("cpu"), torch.get_num_threads(), fastgan._library.isa(), torch.__version__, fastgan.__version__]
    with (results("cpu") / "compiled_critic.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS.split(), "hardware", "threads", "isa", "torch", "fastgan"])
        for name in runs:
            took = percentiles([1e3 * t for t in seconds[name]])
            faster = ratio(seconds, ("torch", "compiled"), name)
            print(f"{name[0]:8} {name[1]:9} {took!s:>26} ms {faster!s:>22} x compiled torch")
            numbers = [f"{n:.4g}" for n in (took.median, faster.p20, faster.median, faster.p80)]
            writer.writerow([*name, *numbers, args.width, args.batch, *about])


if __name__ == "__main__":
    main()
