"""Copies of the embedded sample that may be harmed."""

import shutil

import pytest


@pytest.fixture
def imagenet(sample, tmp_path):
    return shutil.copytree(sample / 'imagenet', tmp_path / 'imagenet')


@pytest.fixture
def ade(sample, tmp_path):
    return shutil.copytree(sample / 'ade/ADEChallengeData2016', tmp_path / 'ade')


@pytest.fixture
def coco(sample, tmp_path):
    return shutil.copytree(sample / 'coco', tmp_path / 'coco')
