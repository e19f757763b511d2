"""From the sample's clips to a row: teacher, AMD, fine-tuning."""

import json
import os
import subprocess
import sys

import pytest

from comad.data.sample.videos import VideoSizes, write_video_sample
from comad.runs.place import FILES

SHORT = ('train_cfg.max_epochs=3', 'train_dataloader.batch_size=4')


@pytest.mark.slow
def test_commands_of_the_page_make_a_row(tmp_path):
    write_video_sample(tmp_path / 'data/sample_video', sizes=VideoSizes(train=12, val=6))
    environment = {**os.environ, 'COMAD_HOME': str(tmp_path), 'CUDA_VISIBLE_DEVICES': ''}

    def train(config, *options):
        command = [sys.executable, FILES / 'tools/train.py', FILES / config, '--sample', *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def trained(config, *options):
        code, output = train(config, *options)
        assert code == 0, output
        return output

    amd, short = 'pretrain_configs/amd_video_small.py', ('--cfg-options', *SHORT)
    code, output = train(amd, *short)
    assert code != 0 and 'tools/pretrain.sh videomae_video_large --sample' in output
    trained('pretrain_configs/videomae_video_large.py', *short)
    trained(amd, *short)
    runs = tmp_path / 'work_dirs/sample/pretrain/amd_video_small'
    card = json.loads((runs / 'seed0/student.json').read_text())
    assert card['unit'] == 'clip' and card['architecture']['type'] == 'MaskedVideoViT'
    assert card['data']['name'] == 'sample' and card['teachers'][0]['family'] == 'videomae'

    validated = (*SHORT, 'train_cfg.val_interval=3')
    trained('video_configs/ssv2_finetune_amd_video_small.py', '--cfg-options', *validated)
    (record,) = (tmp_path / 'results/sample/records').glob('*.json')
    record = json.loads(record.read_text())
    assert set(record['metrics']) == {'top1_mean', 'top5_mean', 'top1_frozen'}
    assert record['cost']['unit'] == 'clip' and record['cost']['gflops'] > 0
    assert record['protocol']['fields']['views'] == '2 clips x 3 crops'
    assert not record['missing'] and record['dataset']['images'] == 6
