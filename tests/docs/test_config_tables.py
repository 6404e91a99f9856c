"""Tables, the model index, the example and the citation, against the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def test_every_config_is_in_the_tables():
    table = (PROJECT / 'docs/configs.md').read_text(encoding='utf-8')
    # These rows say how the names follow from others.
    derived = re.compile(r'(mm_imdb|vgg_sound)_bottleneck_.*')
    configs = {path.name for path in (PROJECT / 'configs').glob('*.py')}
    named = set(re.findall(r'`(\w+\.py)`', table)) - {'default_runtime.py'}
    assert {name for name in configs - named if not derived.match(name)} == set()
    assert named - configs == set()


def test_the_model_index():
    """Configs and numbers of the model index, against the disk and the table of Table 2."""
    yaml = pytest.importorskip('yaml')
    (metafile,) = yaml.safe_load((PROJECT / 'model-index.yml').read_text())['Import']
    content = yaml.safe_load((PROJECT / metafile).read_text())
    collections = {collection['Name']: collection for collection in content['Collections']}
    for collection in collections.values():
        assert (PROJECT / collection['Code']['URL']).is_file()
        assert (PROJECT / collection['README']).is_file()
    numbers = {}
    for model in content['Models']:
        assert model['In Collection'] in collections
        assert Path(model['Config']).stem == model['Name']
        assert (PROJECT / model['Config']).is_file()
        for result in model.get('Results', []):
            numbers[model['Name']] = result['Metrics']['NDS (in the paper)']
    table = (PROJECT / 'docs/configs.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| .* \| `(\w+)\.py` \| (\d+\.\d) \|$', table, re.M)
    assert numbers == {name: float(value) for name, value in rows}
    assert len(numbers) == 11


def test_the_home_page_shows_the_example_of_the_readme():
    """tests/distillation/test_plain_torch.py runs the README's."""
    pages = [
        (PROJECT / page).read_text(encoding='utf-8') for page in ('README.md', 'docs/index.md')
    ]
    examples = [re.findall(r'```python\n(.*?)```', page, re.S) for page in pages]
    assert examples[0] == examples[1] != []


def test_the_citation():
    yaml = pytest.importorskip('yaml')
    citation = yaml.safe_load((PROJECT / 'CITATION.cff').read_text())
    package = (PROJECT / 'projects/ciba_bev/__init__.py').read_text()
    assert f"__version__ = '{citation['version']}'" in package
    assert f'## [{citation["version"]}]' in (PROJECT / 'CHANGELOG.md').read_text()
    assert {'cff-version', 'message', 'title', 'authors', 'license'} <= set(citation)
