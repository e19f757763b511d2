#!/usr/bin/env bash
# From a fresh machine to leaderboards on the embedded sample: no downloads of data, minutes.
#
#   tools/quickstart.sh [sweep.py arguments]
#   tools/quickstart.sh                      # set-up, then all steps; goes on where it stopped
#   tools/quickstart.sh --dry-run            # the steps, which are done, the time left
#   tools/quickstart.sh --jobs 1             # one step at a time
#   tools/quickstart.sh --train-teachers     # trains the teachers instead of placing their files
#
# Steps: sample data, three teachers, which come with it, a CoMAD student, transfers of it and of
# random weights to classification, segmentation and detection, k-NN of a teacher, leaderboards,
# what they show, a report. Everything lands below data/sample, work_dirs/sample and
# results/sample; logs in work_dirs/sample/sweep/quickstart.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
parse_common "$@"
if ((dry_run)); then
    need_python
    exec "$python" tools/sweep.py quickstart --dry-run "${args[@]}"
fi
bash tools/setup.sh
need_python
"$python" tools/sweep.py quickstart "${args[@]}"
echo
"$python" tools/leaderboard.py report --sample
echo 'predictions and sample images:'
for figure in work_dirs/sample/{upernet,mask_rcnn}/comad_tiny/seed0/predictions.png \
    data/sample/contact_sheet.png; do
    [[ ! -f $figure ]] || echo "  $figure"
done
