"""What CoMAD tells about itself: figures for the log, two alarms, and material for a picture."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.logging import MMLogger
from torch import Tensor

from comad.methods.base import effective_rank
from comad.methods.parts.fusion import Gate

DOMINANT_SHARE = 0.8
EARLY = 0.1
# Never called healthy, however narrow the network: two directions are what a mean and one more
# leave. In a toy, collapsed targets had a rank of 1.1 to 1.9.
SMALLEST_RANK = 2.0


class Explanation(NamedTuple):
    """What a step saw, for a picture of B images with N patches.

    Attributes:
        seen: name -> (B, N) bool, the patches that the student and each teacher looked at.
        weights: teacher -> (B, N), its weight at each patch.
        features: name -> (B, N, d), maps in one common space; zero where there is none.
    """

    seen: dict[str, Tensor]
    weights: dict[str, Tensor]
    features: dict[str, Tensor]


class ConsensusDiagnostics:
    """Figures per step, and a warning where they show that something has gone wrong.

    A warning is given once, when a condition has held at every look for ``alarm_steps`` steps; a
    resumed run counts anew. A healthy student, too, starts with nearly equal tokens (on the sample
    a rank of 1.8 for a quarter of the run): a low rank counts after a tenth of the training. All
    figures are those of one process's share of the batch.

    Args:
        teachers: their names.
        width: d, the student's width.
        tau: temperature of the gate, named in the warning.
        every: steps between two looks, at which the effective ranks are computed.
        alarm_steps: how long a condition must hold.
        collapse_rank: share of ``width`` below which an effective rank counts as collapsed; never
            less than 2 directions. Our choice.
    """

    def __init__(
        self,
        teachers: Sequence[str],
        width: int,
        tau: float,
        every: int = 50,
        alarm_steps: int = 500,
        collapse_rank: float = 0.02,
    ) -> None:
        if every < 1 or alarm_steps < 1:
            raise ValueError(
                f'diagnostics_every={every}, alarm_steps={alarm_steps}: expected at least 1'
            )
        if not 0 <= collapse_rank < 1:
            raise ValueError(
                f'collapse_rank={collapse_rank}: expected a share of the width below 1'
            )
        self.teachers, self.width, self.tau = tuple(teachers), width, tau
        self.every, self.alarm_steps = every, alarm_steps
        self.smallest_rank = max(SMALLEST_RANK, collapse_rank * width)
        self.steps = 0
        self.held: dict[str, int] = {}

    @torch.no_grad()
    def __call__(
        self,
        gate: Gate,
        student_keep: Tensor,
        target: Tensor,
        student: Tensor,
        progress: float = 0.0,
    ) -> dict[str, Tensor]:
        """Weight share and agreement per teacher and entropy of the gate, at the student's patches.

        Shares over the whole image would mostly tell who sees more, and hide a winner.

        Args:
            gate: weights and agreement, both (B, K, N).
            student_keep: (B, n) patches that the student sees.
            target: (B, n, d) normalised consensus there.
            student: (B, n, d) normalised student tokens.
            progress: share of the training that is done.
        """
        index = student_keep.unsqueeze(1).expand(-1, len(self.teachers), -1)
        weights, agreement = gate.weights.gather(2, index), gate.agreement.gather(2, index)
        shares = weights.mean(dim=(0, 2))
        out = {'gate_entropy': torch.special.entr(weights).sum(1).mean()}
        for k, name in enumerate(self.teachers):
            out[f'share_{name}'] = shares[k]
            out[f'agreement_{name}'] = agreement[:, k].mean()
        self.steps += 1
        # At the first step and then together with a log line, which shows the latest value.
        if self.steps == 1 or self.steps % self.every == 0:
            out['target_rank'] = effective_rank(target)
            out['student_rank'] = effective_rank(student)
            ranks = float(out['target_rank']), float(out['student_rank'])
            self.watch(shares, *ranks, progress)
        return out

    def watch(
        self, shares: Tensor, target_rank: float, student_rank: float, progress: float
    ) -> None:
        """Compare one look with the alarms: (K,) shares and the two effective ranks."""
        share, winner = (value.item() for value in shares.max(dim=0))
        if self._lasts('winner', len(shares) > 1 and share > DOMINANT_SHARE):
            self._warn(
                f'teacher {self.teachers[int(winner)]} has held {share:.0%} of the gate for '
                f'{self.alarm_steps} steps at tau={self.tau}: the others teach nothing; a larger '
                "tau spreads the weight, gate='agreement_only' takes the student out of it"
            )
        for name, rank in (('targets', target_rank), ('student tokens', student_rank)):
            # Written so that NaN, the rank of a diverged model, counts as collapsed.
            low = not rank >= self.smallest_rank
            if self._lasts(name, low and progress >= EARLY):
                self._warn(
                    f'the {name} have had an effective rank below {self.smallest_rank:.1f} of '
                    f'{self.width} for {self.alarm_steps} steps (now {rank:.2f}): they have '
                    'collapsed to almost one direction and tell images apart no longer; try a '
                    "lower learning rate, a longer warm-up, or align='procrustes' if targets are "
                    'trained'
                )

    def _lasts(self, alarm: str, present: bool) -> bool:
        """Whether a condition has just completed ``alarm_steps`` steps."""
        before = self.held.get(alarm, 0)
        self.held[alarm] = before + self.every if present else 0
        return before < self.alarm_steps <= self.held[alarm]

    @staticmethod
    def _warn(line: str) -> None:
        MMLogger.get_current_instance().warning(line)
