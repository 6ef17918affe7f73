# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""README tables, metafiles and model-index.yml agree with the configs."""

import re

import pytest
from conftest import ROOT
from mmengine.config import Config, DictAction
from mmpose.registry import KEYPOINT_CODECS
from modelindex.load_model_index import load

CONFIGS = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').glob('*_2d_keypoint/**/*.py')
    if path.parent.name != 'toy_coco'  # no paper's
}
READMES = sorted((ROOT / 'configs').rglob('README.md'))
LINK = re.compile(r'\]\(\./([^)]+\.py)\)')
OPTION = re.compile(r'`(model\.[^`]+)`')


def rows(readme):
    """(config, rest) of every table row that links a config."""
    for line in readme.read_text(encoding='utf-8').splitlines():
        link = LINK.search(line)
        if link:
            yield readme.parent / link[1], line


def options_of_rows():
    for readme in READMES:
        for config, line in rows(readme):
            if OPTION.search(line):
                yield pytest.param(
                    config,
                    OPTION.findall(line),
                    id=f'{readme.parent.name}-{"-".join(OPTION.findall(line))}',
                )


class TestModelIndex:
    @pytest.fixture(scope='class')
    def index(self):
        return load(str(ROOT / 'model-index.yml'))

    def test_loads_without_complaint(self, index):
        assert index.check(silent=True) == []

    def test_lists_every_config_once(self, index):
        configs = [model.config for model in index.models]
        assert sorted(configs) == sorted(CONFIGS)
        for model in index.models:
            assert model.config.endswith(f'/{model.name}.py')

    def test_collections_are_defined(self, index):
        names = [collection.name for collection in index.collections]
        assert len(names) == len(set(names))
        assert {model.in_collection for model in index.models} == set(names)

    def test_results_say_whose_they_are(self, index):
        for model in index.models:
            source = ' training' if '300w' in model.name else ' paper, '
            for result in model.results or []:
                assert result.metrics
                for name, value in result.metrics.items():
                    assert source in name
                    assert 0 < value < 1


class TestReadmes:
    def test_list_every_config(self):
        listed = {
            config.relative_to(ROOT).as_posix() for readme in READMES for config, _ in rows(readme)
        }
        assert listed == CONFIGS

    @pytest.mark.parametrize('config, options', options_of_rows())
    def test_options_of_a_row_build(self, config, options):
        """As mim parses them."""
        cfg = Config.fromfile(config)
        parsed = {
            key: DictAction._parse_iterable(value)
            for key, value in (option.split('=') for option in options)
        }
        cfg.merge_from_dict(parsed)
        decoder = KEYPOINT_CODECS.build(cfg.model.head.decoder)
        for key, value in parsed.items():
            *owner, name = key.split('.')
            if owner == ['model', 'test_cfg']:
                assert cfg.model.test_cfg[name] == value
            elif name == 'type':
                assert type(decoder).__name__ == value
            else:
                assert getattr(decoder, name) == value
