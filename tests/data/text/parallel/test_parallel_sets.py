"""Parallel sets from files, folders, tabs and TFDS; and what is wrong with them, in a line."""

import logging

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from data.text.parallel import datasets, numerals
from tests.data.text.parallel import small_pairs
from tests.data.text.parallel.small_pairs import sentences, small, write_pairs, write_side

cache, folder = small_pairs.cache, small_pairs.folder  # fixtures
EN_DE = ('en', 'de')


def pairs_of(dataset, split='train', languages=EN_DE, **options):
  found = datasets.load(str(dataset), languages, **options)[split]
  return list(found.read(range(found.size)))


# -------- where pairs come from --------


def test_a_folder_has_a_split_for_each_pair_of_files(folder):
  assert sorted(datasets.load(str(folder), EN_DE)) == ['test', 'train', 'val']
  assert pairs_of(folder, 'val') == sentences(10, 100)
  assert pairs_of(folder, 'val', ('de', 'en')) == [(b, a) for a, b in sentences(10, 100)]


def test_two_files_are_divided_evenly_and_no_pair_is_lost(tmp_path):
  write_pairs(tmp_path, 'x', sentences(50), ending='')
  both = f'{tmp_path / "x.en"},{tmp_path / "x.de"}'
  train, held_out = (pairs_of(both, split) for split in ('train', 'validation'))
  assert len(held_out) == 5 and sorted(train + held_out) == sorted(sentences(50))
  assert [sentences(50).index(pair) // 10 for pair in held_out] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('header', [False, True])
def test_tabs_between_the_sentences(tmp_path, header):
  rows = [f'{a}\t{b}\tCC-BY' for a, b in sentences(20)]
  rows = ['de\tid\ten', *(f'{b}\t7\t{a}' for a, b in sentences(20))] if header else rows
  (tmp_path / 'x.tsv').write_text('\n'.join(rows) + '\n')
  assert pairs_of(tmp_path, 'x') == sentences(20)
  assert len(pairs_of(tmp_path / 'x.tsv')) == 18  # a tenth is held out


def test_a_line_ends_with_a_line_feed_and_with_nothing_else(tmp_path):
  odd = [('a\u2028b\x85c\x0bd\x0ce', 'f\u2029g'), (' two  spaces ', '\u00a0no\u00a0break')]
  write_pairs(tmp_path, 'x', odd, ending='')
  assert pairs_of(tmp_path, 'x') == odd
  write_side(tmp_path / 'x.en', [f'{pair[0]}\r' for pair in odd])
  assert pairs_of(tmp_path, 'x') == odd


def test_a_tfds_set_of_translations(tmp_path):
  class Builder(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')
    name = 'tiny_translate'
    url_infos = {}

    def _info(self):
      features = tfds.features.Translation(languages=['de', 'en'])
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples(20), 'test': self._generate_examples(4)}

    def _generate_examples(self, count):
      for i in range(count):
        yield i, {'de': f'grün {i}', 'en': f'green {i}'}

  with registered.skip_registration():
    Builder(data_dir=tmp_path, file_format='array_record').download_and_prepare()
  found = pairs_of('tiny_translate', 'test', data_dir=str(tmp_path))
  assert sorted(found) == [(f'green {i}', f'grün {i}') for i in range(4)]
  with pytest.raises(ValueError, match=r"data.target='fr': the set .* choices: de, en"):
    pairs_of('tiny_translate', languages=('en', 'fr'), data_dir=str(tmp_path))
  data = small('tiny_translate', data_dir=str(tmp_path), eval_split='test')
  assert sorted(data.lines('test')[1]) == [f'grün {i}' for i in range(4)]
  data.close()


NUMBERS = {
  0: ('zero', 'null', 'zéro'),
  21: ('twenty-one', 'einundzwanzig', 'vingt et un'),
  80: ('eighty', 'achtzig', 'quatre-vingts'),
  91: ('ninety-one', 'einundneunzig', 'quatre-vingt-onze'),
  101: ('one hundred and one', 'einhunderteins', 'cent un'),
  200: ('two hundred', 'zweihundert', 'deux cents'),
  1_071: ('one thousand and seventy-one', 'eintausendeinundsiebzig', 'mille soixante et onze'),
  80_016: ('eighty thousand and sixteen', 'achtzigtausendsechzehn', 'quatre-vingt mille seize'),
  300_200: (
    'three hundred thousand two hundred',
    'dreihunderttausendzweihundert',
    'trois cent mille deux cents',
  ),
}


@pytest.mark.parametrize('number', NUMBERS)
def test_numerals(number):
  names = tuple(numerals.in_words(number, language) for language in ('en', 'de', 'fr'))
  assert names == NUMBERS[number]


def test_no_number_is_in_two_splits_and_no_two_have_one_name():
  splits = numerals.splits()
  every = [number for numbers in splits.values() for number in numbers]
  assert len(set(every)) == len(every) > 9_000 and set(splits) == {'train', 'validation', 'test'}
  for language in numerals.LANGUAGES:
    assert len({numerals.in_words(number, language) for number in every}) == len(every)
  assert pairs_of('numerals', 'test')[0] == tuple(
    numerals.in_words(splits['test'][0], language) for language in EN_DE
  )


# -------- what is wrong --------


def test_files_of_unequal_length_name_the_first_line_without_a_partner(folder):
  write_side(folder / 'val.de.gz', [b for _, b in sentences(9, 100)])
  with pytest.raises(ValueError, match=r'val.en.gz, line 10: has no translation, .*only 9 lines'):
    small(folder)


def test_languages_that_are_not_there(folder):
  (folder / 'README.md').write_text('no sentences')
  with pytest.raises(ValueError, match=r"data.target='fr': .*pairs has no .* choices: de, en$"):
    small(folder, target='fr')
  with pytest.raises(ValueError, match=r"data.source and data.target are both 'de'"):
    small(folder, source='de')
  with pytest.raises(ValueError, match=r"data.source='xx': numerals has no .* de, en, fr"):
    small('numerals', source='xx')


def test_a_file_without_a_partner_is_left_out_and_said(folder, caplog):
  write_side(folder / 'more.en', ['one'])
  with caplog.at_level(logging.WARNING):
    assert 'more' not in datasets.load(str(folder), EN_DE)
  assert 'files without a partner: 1 (more.en)' in caplog.text


def test_what_is_no_set(tmp_path):
  for dataset, message in {
    str(tmp_path / 'absent'): 'no such file or folder; choices: numerals, two files',
    f'{tmp_path}/a.en,{tmp_path}/a.de': 'no such file: .*a.en',
    'a,b,c': 'no such file or folder',
    '~nobody/pairs': 'no such file or folder',
    'x' * 300 + '/': 'write .NAME., .NAME/CONFIG. or',
    'tiny_nothing': 'not found in .*choices there: numerals, two files, a folder',
  }.items():
    with pytest.raises(ValueError, match=message):
      datasets.load(dataset, EN_DE, str(tmp_path))
  (tmp_path / 'x.tsv').write_text('a\tb\nc\n')
  with pytest.raises(ValueError, match=r"x.tsv, line 2: 'c' has 0 tabs; must have 1"):
    datasets.load(str(tmp_path / 'x.tsv'), EN_DE)
  (tmp_path / 'x.tsv').write_text('a\tb\n')
  with pytest.raises(ValueError, match=r'has 1 pairs; must have one to train on as well'):
    datasets.load(str(tmp_path / 'x.tsv'), EN_DE)
  (tmp_path / 'x.tsv').write_text('')
  with pytest.raises(ValueError, match=r'x.tsv: is empty'):
    datasets.load(str(tmp_path / 'x.tsv'), EN_DE)


def test_pairs_that_cannot_be_trained_on_are_left_out_and_counted(folder, caplog):
  pairs = [
    *sentences(20),
    ('', 'leer'),
    ('empty', '\u00a0'),
    ('much ' * 20, 'viel'),
    ('', 'a' * 99),
  ]
  write_pairs(folder, 'train', pairs)
  with caplog.at_level(logging.WARNING):
    data = small(folder)
  assert 'pairs with an empty side: 3 (such as number 21, number 22)' in caplog.text
  assert 'pairs longer than data.block_size=64 pieces: 1 (number 23)' in caplog.text
  assert '20 pairs to train on' in data.describe()
  data.close()
  with pytest.raises(
    ValueError, match=r'left out of training is everything: .*block_size=2 pieces'
  ):
    small(folder, block_size=2)
