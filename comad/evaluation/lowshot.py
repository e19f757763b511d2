"""Low-shot linear evaluation: logistic regression on the frozen features of few labelled images."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import LOOPS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from comad.evaluation.feature_bank import FeatureBankLoop


@LOOPS.register_module()
class LowShotTestLoop(FeatureBankLoop):
    """Logistic regression on the features of a labelled subset, one classifier per pool.

    Features are standardised with the subset's mean and deviation. The strength of the L2 penalty
    is the one of ``strengths`` that is best on a fifth of the subset, drawn per class and held
    back; the final classifier is fitted on the whole subset. Evaluation images take no part in
    the choice. Solver and penalty are scikit-learn's (L-BFGS). All of this is our choice.

    Args:
        runner: See `FeatureBankLoop`, as for all that is not listed here.
        dataloader: Images to classify.
        evaluator: Config of the metrics, or an evaluator.
        bank_dataloader: The labelled subset.
        strengths: Values of scikit-learn's C, the inverse strength of the penalty.
        max_iter: Iterations of the solver at most.
        options: ``pools`` and ``phase``.

    Raises:
        ValueError: no strength, or one that is not positive; a subset with a single class.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        evaluator: Evaluator | dict[str, Any] | list[dict[str, Any]],
        bank_dataloader: DataLoader | dict[str, Any],
        strengths: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        max_iter: int = 200,
        **options: Any,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, bank_dataloader, **options)
        if not strengths or min(strengths) <= 0:
            raise ValueError(f'strengths {tuple(strengths)} must be positive numbers')
        self.strengths, self.max_iter = tuple(strengths), max_iter
        self.classifiers: dict[str, Any] = {}  # scikit-learn's pipelines

    def fit(self, bank: dict[str, Tensor], labels: Tensor, num_classes: int) -> None:
        """Choose the penalty and fit the classifiers."""
        y = labels.cpu().numpy()
        if len(set(y.tolist())) < 2:
            raise ValueError(f'the labelled subset holds the class {y[0]} alone')
        self.num_classes = num_classes
        for pool, features in bank.items():
            x = features.cpu().numpy()
            strength = self._choose(x, y)
            self.classifiers[pool] = self._classifier(strength).fit(x, y)
            MMLogger.get_current_instance().info(
                f'{pool}: logistic regression on {len(y)} images, C = {strength:g}'
            )

    def scores(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (B, C) per pool; classes that the subset lacks get the lowest."""
        scores = {}
        for pool, x in features.items():
            classifier = self.classifiers[pool]
            values = torch.from_numpy(classifier.decision_function(x.cpu().numpy())).float()
            if values.ndim == 1:  # two classes
                values = torch.stack([-values, values], dim=1) / 2
            full = values.new_full((len(values), self.num_classes), float(values.min()) - 1)
            full[:, torch.from_numpy(classifier.classes_)] = values
            scores[pool] = full.to(x.device)
        return scores

    def _choose(self, x: Any, y: Any) -> float:
        """The strength that is best on the part held back."""
        if len(self.strengths) == 1:
            return self.strengths[0]
        from sklearn.model_selection import StratifiedShuffleSplit

        split = StratifiedShuffleSplit(1, test_size=0.2, random_state=0)
        try:
            fitted, held_back = next(split.split(x, y))
        except ValueError as error:
            raise ValueError(
                f'{len(y)} labelled images are too few to hold a fifth of them back per class: '
                f'give a single value in strengths ({error})'
            ) from error
        accuracy = {
            strength: self._classifier(strength)
            .fit(x[fitted], y[fitted])
            .score(x[held_back], y[held_back])
            for strength in self.strengths
        }
        return max(accuracy, key=accuracy.__getitem__)

    def _classifier(self, strength: float) -> Any:
        # A second to import, which every start of every other evaluation would wait for.
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, max_iter=self.max_iter)
        )
