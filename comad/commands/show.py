"""Show what configs really run: recipe card, cost and optimizer groups; or a study's plan.

The card puts the effective protocol, after inheritance, overlays and options, beside the published
protocol that the config claims, and marks each difference with its reason. The plan of a track's
study is what is there, what is missing, hours and disk, and the next command.
"""

import argparse
import json
import sys
import warnings
from typing import Any

from comad.commands.command import check_counts, command
from comad.engine.options import COMMON, ConfigError, add_options, run_options
from comad.recipes.price import DECODE_RATE, TFLOPS
from comad.runs.place import FILES, enter_home, find_config, get_track, home, runs_folder, worded

EXAMPLES = """examples:
  python tools/show.py seg_configs/upernet_comad_tiny.py
  python tools/show.py cls_configs/linear_comad_tiny.py --sample --json
  python tools/show.py pretrain_configs/mae_tiny.py pretrain_configs/mae_base.py
  python tools/show.py det_configs/mask_rcnn_comad_tiny.py --gpus 4 --accumulate 2
  python tools/show.py plan --track overnight --tflops 400 --seeds 1

marks: = as published, ≠ different (with the reason), none: the sources at hand do not state it.
Nothing is read from data or weights; what a run would miss is listed. Exit status 1 when claim
and config disagree, 2 when a config cannot be shown; the others are.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=worded(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'config',
        type=_config_or_plan,
        nargs='*',
        help='leaves of pretrain_, cls_, seg_, det_ or distill_configs/; plan, or nothing, is the '
        "plan of the track's study",
    )
    plan = parser.add_argument_group('of a plan')
    plan.add_argument('--seeds', type=int, default=3, metavar='N', help='default: %(default)s')
    plan.add_argument('--methods', nargs='+', default=[], metavar='NAME', help='only these')
    plan.add_argument('--tasks', nargs='+', default=[], metavar='KIND', help='only these')
    parser.add_argument(
        '--json', action='store_true', help='everything as a JSON object, several as a list'
    )
    parser.add_argument(
        '--gpus', type=int, help="processes of the run (default: what gives the recipe's batch)"
    )
    parser.add_argument(
        '--tflops',
        type=float,
        default=TFLOPS,
        help='TFLOP/s that each GPU is assumed to sustain, for the hours (default %(default)s)',
    )
    parser.add_argument(
        '--decode-rate',
        type=float,
        help='ImageNet images/s, or videos/s, that each data worker is assumed to decode (default: '
        '300 images, 25 videos)',
    )
    add_options(parser, *COMMON, 'auto_scale_lr', 'accumulate')
    args = parser.parse_args(argv)
    check_counts(parser, args, 'seeds', 'gpus')
    for name in ('tflops', 'decode_rate'):
        if (rate := getattr(args, name)) is not None and not 0 < rate < float('inf'):
            parser.error(f'--{name.replace("_", "-")} {rate:g}: expected more than 0')
    return args


def _config_or_plan(text: str) -> str:
    return text if text == 'plan' else find_config(text)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    enter_home()
    warnings.filterwarnings('ignore')  # of packages that the mm* frameworks still use
    if args.config in ([], ['plan']):
        return show_plan(args)
    status, shown = 0, []
    for number, config in enumerate(args.config):
        if number and not args.json:
            print()
        content = show(argparse.Namespace(**{**vars(args), 'config': config}))
        if content is None:
            status = 2
            continue
        shown.append(content)
        status = max(status, 1 if content['card']['problems'] else 0)
    if args.json and shown:
        print(json.dumps(shown[0] if len(args.config) == 1 else shown, indent=1))
    return status


def show_plan(args: argparse.Namespace) -> int:
    """Print the plan of a track's study; 0."""
    from comad.sweep.grid import study
    from comad.sweep.plan import make_plan, plan_text, priced
    from comad.sweep.runner import Sweep
    from comad.sweep.step import SweepError
    from comad.sweep.teachers import with_shipped

    track, gpus = get_track(args.track), args.gpus or 1

    def told(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        steps = study(FILES, args.seeds, args.methods, args.tasks, track=track.name)
    except SweepError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    if track.stand_ins:
        steps = with_shipped(steps)
    else:
        steps = priced(steps, track, gpus, args.tflops, args.decode_rate or DECODE_RATE, told)
    state = runs_folder(track.name) / 'sweep'
    plan = make_plan(Sweep('study', steps, home(), state, FILES, gpus=gpus), track, args.tflops)
    print(json.dumps(plan.as_json(), indent=1) if args.json else plan_text(plan))
    return 0


def show(args: argparse.Namespace) -> dict[str, Any] | None:
    """Print one config as text, unless JSON is wanted; what the JSON says, None where it fails."""
    from comad.engine.paths import check_paths
    from comad.engine.run_config import load_run_config

    try:
        cfg = load_run_config(run_options(args), check=False)
        if 'run' not in cfg:
            raise ConfigError(f'{args.config} is no leaf of the suite: it claims no protocol')
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        return None
    missing = ''
    try:
        check_paths(cfg, get_track(args.track))
    except ConfigError as error:
        missing = str(error)

    from mmengine.logging import MMLogger

    import comad.engine.register  # noqa: F401
    from comad.recipes.card import recipe_card
    from comad.recipes.cost import DECODE_RATES, counted
    from comad.recipes.groups import parameter_groups
    from comad.recipes.text import cost_text, groups_text, protocol_text
    from comad.tasks.protocol import recipe_processes

    # Building says which groups it makes; here they are the output.
    MMLogger.get_instance('show', log_level='ERROR')
    config = cfg._cfg_dict.to_dict()
    gpus = args.gpus or (1 if get_track(args.track).stand_ins else recipe_processes(config))
    try:
        model, cost = counted(config, gpus)
        card = recipe_card(config, cfg.run.kind, gpus, args.track)
        groups = parameter_groups(config, model) if 'train_cfg' in config else []
    except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
        print(f'error: {args.config}: {" ".join(str(error).split())}', file=sys.stderr)
        return None
    rate = args.decode_rate or DECODE_RATES[cost.unit]
    if not args.json:
        print(f'{cfg.run.config}: {cfg.run.kind}, student {cfg.run.student}')
        print(protocol_text(card))
        print(cost_text(cost, gpus, args.tflops, rate))
        if groups:
            print(f'optimizer groups:\n{groups_text(groups)}')
        print(missing or 'data and weights are in place')
    return {
        'config': cfg.run.config,
        'student': cfg.run.student,
        'gpus': gpus,
        'card': card.as_json(),
        'cost': {
            **vars(cost),
            'hours': round(cost.hours(gpus, args.tflops), 2),
            'data_hours': round(cost.data_hours(rate), 2),
            'assumed_tflops': args.tflops,
            'assumed_decode_rate': rate,
        },
        'groups': [vars(group) for group in groups],
        'missing': missing,
    }


if __name__ == '__main__':
    sys.exit(main())
