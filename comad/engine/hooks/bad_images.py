"""Bad images of a run: which data sets are checked, and what the log says."""

from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from comad.data.faults import LISTING, CheckedImages

MAX_LINES = 10


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Wraps the run's data sets in `CheckedImages` and warns once per new bad image.

    Training replaces up to ``max_bad_share`` of its images, all processes and epochs together,
    and names them in ``bad_images.txt`` of the work dir; an evaluation never replaces any.

    Args:
        max_bad_share: Share of the training images that may be unreadable; 0 stops at the first.
        interval: Steps between two looks at the list.
    """

    def __init__(self, max_bad_share: float = 0.001, interval: int = 50) -> None:
        self.max_bad_share, self.interval = max_bad_share, interval
        self.told = 0

    def wrap(self, runner: Any, dataloader: Any, training: bool) -> Any:
        """The config of a data loader, its data set wrapped; anything else as it is."""
        dataset = dataloader.get('dataset') if isinstance(dataloader, dict) else None
        if not isinstance(dataset, dict) or dataset.get('type') == CheckedImages.__name__:
            return dataloader
        checked = dict(type=CheckedImages.__name__, dataset=dataset)
        if training:
            listing = Path(runner.work_dir) / LISTING
            if not runner._resume and is_main_process():
                listing.unlink(missing_ok=True)
            barrier()  # before anything is read
            checked.update(listing=str(listing), max_bad_share=self.max_bad_share)
        return {**dataloader, 'dataset': checked}

    def before_train(self, runner: Any) -> None:
        self.told = len(self._listed(runner))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self.every_n_train_iters(runner, self.interval):
            self._tell(runner)

    def after_train(self, runner: Any) -> None:
        self._tell(runner)

    def _tell(self, runner: Any) -> None:
        if not is_main_process():
            return
        listed = self._listed(runner)
        for line in listed[self.told : MAX_LINES]:
            runner.logger.warning('unreadable image, replaced: ' + line.replace('\t', ' | '))
        if len(listed) > max(self.told, MAX_LINES) >= MAX_LINES > self.told:
            runner.logger.warning(f'further unreadable images are in {LISTING} only')
        self.told = len(listed)

    @staticmethod
    def _listed(runner: Any) -> list[str]:
        listing = Path(runner.work_dir) / LISTING
        if not listing.is_file():
            return []
        return [line for line in listing.read_text(encoding='utf-8').split('\n') if line]
