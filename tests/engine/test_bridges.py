"""What the bridges replace is gone, and configs are still found."""

import importlib
import pkgutil
import sys

import pytest

from comad.engine import bridges
from comad.engine.options import ConfigError
from comad.engine.run_config import parse_config
from comad.runs.place import FILES

LEAVES = ('seg_configs/upernet_comad_tiny.py', 'det_configs/mask_rcnn_comad_tiny.py')


@pytest.mark.parametrize('leaf', LEAVES)
def test_bases_of_other_packages_need_no_pkg_resources(leaf, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    assert parse_config(FILES / leaf).model.type in ('EncoderDecoder', 'MaskRCNN')


@pytest.mark.parametrize(
    'text',
    [
        "_base_ = 'mmrotate::_base_/base.py'\n",
        'from mmengine.config import read_base\n\nwith read_base():\n'
        '    from mmrotate.base import *\n',
    ],
)
def test_a_package_may_come_from_a_distribution_of_any_name(text, tmp_path, monkeypatch):
    """As mmseg does from onedl-mmsegmentation; this one comes from none at all."""
    configs = tmp_path / 'mmrotate' / '.mim' / 'configs' / '_base_'
    configs.mkdir(parents=True)
    (configs.parents[1] / 'model-index.yml').write_text('Import: []\n')
    for path in (configs, tmp_path / 'mmrotate'):
        (path / 'base.py').write_text('answer = 42\n')
    (tmp_path / 'mmrotate' / '__init__.py').touch()
    (tmp_path / 'leaf.py').write_text(text)
    with pytest.raises(ConfigError, match='needs the package'):
        parse_config(tmp_path / 'leaf.py')
    monkeypatch.syspath_prepend(tmp_path)
    assert parse_config(tmp_path / 'leaf.py').answer == 42


def test_find_loader_answers_as_it_did(monkeypatch):
    monkeypatch.delattr(pkgutil, 'find_loader', raising=False)
    bridges.restore_find_loader()
    dl_utils = importlib.import_module('mmengine.utils.dl_utils')
    assert dl_utils.mmcv_full_available()
    monkeypatch.setattr(bridges, 'find_spec', lambda name: None)
    assert not dl_utils.mmcv_full_available()


def test_the_text_of_a_config_is_laid_out_once(monkeypatch):
    from mmengine.config import Config, config

    bridges.apply()
    formatter, laid_out = config.FormatCode, []
    original = formatter.format_code
    monkeypatch.setattr(
        formatter, 'format_code', lambda text, **k: laid_out.append(text) or original(text, **k)
    )
    one = Config(dict(model=dict(type='ThisTest', width=3)))
    first, again = one.pretty_text, one.pretty_text
    one.model.width = 4
    assert first == again != one.pretty_text and 'width=3' in first and 'width=4' in one.pretty_text
    assert len(laid_out) == 2
    bridges.apply()
    assert config.FormatCode is formatter
