"""Train any config of the suite: pretraining, classification, segmentation or detection."""

import argparse
import os
import sys

from comad.commands.command import command
from comad.engine.options import COMMON, ConfigError, add_options, run_options
from comad.engine.preemption import stop_request
from comad.runs.place import enter_home, find_config, typed, worded

EXAMPLES = """examples:
  python tools/train.py pretrain_configs/comad_tiny.py --sample       # on the embedded sample, CPU
  python tools/train.py cls_configs/linear_comad_tiny.py --sample     # its linear probe
  python tools/train.py seg_configs/upernet_comad_tiny.py --sample --student mae_tiny
  python tools/train.py pretrain_configs/comad_tiny.py --resume       # after an interruption, also
                                                                      # before the first start
  python tools/train.py det_configs/mask_rcnn_comad_tiny.py \\
      --cfg-options train_dataloader.batch_size=4 --accumulate 2         # the recipe's batch
  python tools/train.py cls_configs/finetune_comad_tiny.py --replay WORK_DIR/nan_step120
several GPUs or processes: tools/dist_train.sh CONFIG N [these options]

SIGTERM, SIGUSR1 or Ctrl-C saves after the current step and stops; a second Ctrl-C stops at once.
Exit codes: 0 finished; 2 refused, or the disk is full; 3 stopped for a reason told in one line
(docs/running.md), 4 for one of the machine, with which --resume may go on; 75 stopped on request,
the same command with --resume goes on; 130 second Ctrl-C; others: it failed.

A config without a training part (k-NN) is only tested. Configs are Python code: run only files
that you trust.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=worded(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'config', type=find_config, help='a leaf of pretrain_, cls_, seg_, det_ or distill_configs/'
    )
    add_options(parser, *COMMON, 'resume', 'extend', 'overwrite', 'amp', 'compute_of')
    add_options(parser, 'teachers', 'student_arch')
    add_options(parser, 'auto_scale_lr', 'accumulate')
    parser.add_argument(
        '--print-work-dir', action='store_true', help="print the run's folder and do nothing"
    )
    parser.add_argument(
        '--replay',
        type=typed,
        metavar='BUNDLE',
        help='instead of training, compute a step again whose loss was not finite, saved as '
        'nan_step<N>/ in the work dir, and name the first module that breaks; status 0 if it '
        'happens again, 1 if not',
    )
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Train, replay or print the work dir; the exit codes are those of `EXAMPLES`."""
    if argv is None:
        stop_request.end_at_once()
    args = parse_args(argv)
    enter_home()
    options = run_options(args)
    if args.print_work_dir:
        from comad.engine.run_config import load_run_config

        try:
            print(os.path.abspath(load_run_config(options, check=False).work_dir))
        except ConfigError as error:
            print(f'error: {error}', file=sys.stderr)
            return 2
        return 0
    from comad.engine.launch import launch, launch_replay

    return launch_replay(options, args.replay) if args.replay else launch(options)


if __name__ == '__main__':
    sys.exit(main())
