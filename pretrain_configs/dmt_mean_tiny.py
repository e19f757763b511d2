"""DMT with one target: the mean of the teachers in a common space instead of one head for each.

    tools/pretrain.sh dmt_mean
    tools/pretrain.sh dmt_mean --sample

Hardware and time: as dmt_tiny; not yet measured. Figure to reach: not published; no source that
could be read says which of the two DMT does. The common space is that of comad_tiny's alignment,
fitted on whole images.
"""

_base_ = './dmt_tiny.py'

model = dict(heads='mean')
