"""Configs: a section is one constructor's keyword arguments, and its signature is the schema.

`load` reads a file, `override` puts in what the command line says, `complete` checks names and
types and fills in the defaults, `build` calls the constructor. A config is a dict of JSON values
throughout, but for tuples, which JSON turns into lists and `complete` into tuples again.
"""

import dataclasses
import importlib.util
import inspect
import json
import os
import pkgutil
import traceback
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from train.config_types import MISSING, OverrideText, describe, fit, is_json
from train.errors import UserError, shown, unknown

# What a section is checked against: one constructor, or a choice of them by the section's `name`.
# A constructor 'module:name' is imported when it is chosen.
Table = Callable[..., Any] | Mapping[str, Callable[..., Any]] | Mapping[str, str]

DEEPEST = 8  # dots in a key
RESUMES = 'move it away, and --config=FILE resumes its run'  # when a config.json is damaged


# -------- files --------


def load(path: str) -> dict[str, Any]:
  """Returns the dict of `get_config()` in a .py file, or of a run's config.json."""
  if not os.path.isfile(path):
    raise UserError(f'{path}: no such config file')
  if path.endswith('.json'):
    return read_json(path, RESUMES)
  spec = importlib.util.spec_from_file_location('config', path)
  if spec is None or spec.loader is None:
    raise UserError(f'{path}: a config is a file NAME.py with get_config(), or a config.json')
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config()
  except (Exception, SystemExit) as error:
    what = f'{type(error).__name__}: {" ".join(str(error).split())}'
    raise UserError(f'{path}{_line_of(error, path)}: {what}') from error
  config = config.to_dict() if hasattr(config, 'to_dict') else config
  if not isinstance(config, Mapping) or not is_json(config):
    raise UserError(
      f'{path}: get_config() must return a dict of what JSON can say, not {shown(config)}'
    )
  return dict(config)


def _line_of(error: BaseException, path: str) -> str:
  """Returns ', line 7': the last line of the file that an error passed through; '' if none did."""
  whole = os.path.abspath(path)
  if isinstance(error, SyntaxError) and error.filename == whole:
    return f', line {error.lineno}'
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == whole]
  return f', line {lines[-1]}' if lines else ''


def read_json(path: str, remedy: str = '') -> dict[str, Any]:
  """Returns the JSON object that a file holds.

  remedy: what to do if it does not, for the error.

  Raises:
    UserError: it cannot be read or is damaged: no JSON, not UTF-8, or JSON of another type.
  """
  try:
    with open(path, encoding='utf-8-sig') as file:  # Windows' editors begin with a mark
      value = json.load(file)
  except OSError as error:
    raise UserError(f'{path}: cannot be read: {error.strerror}{_then(remedy)}') from error
  except (ValueError, RecursionError) as error:
    value, reason = None, str(error) or 'nested too deeply'
  else:
    reason = f'not {shown(value)}'
  if not isinstance(value, dict):
    raise UserError(f'{path}: damaged, it should hold one JSON object ({reason}){_then(remedy)}')
  return value


def _then(remedy: str) -> str:
  return f'; {remedy}' if remedy else ''


def override(config: Mapping[str, Any], key: str, text: str) -> dict[str, Any]:
  """Returns a copy of `config` in which `key` ('optimizer.learning_rate') is what `text` says.

  The text is read when `complete` knows the type. A whole section may be given by its name:
  ('model', 'resnet20') is ('model.name', 'resnet20') with the section's other keys dropped.
  """
  if key.count('.') > DEEPEST:
    raise UserError(f'{key[:60]}...: a key has at most {DEEPEST + 1} parts')
  first, _, rest = key.partition('.')
  if not rest:
    return {**config, first: OverrideText(text)}
  section = config.get(first, {})
  if isinstance(section, OverrideText):
    section = {'name': section}
  if not isinstance(section, Mapping):
    raise UserError(f'{key}={text[:100]}: {first} is a value ({shown(section)}), not a section')
  return {**config, first: override(section, rest, text)}


# -------- sections --------


def complete(
  section: Mapping[str, Any] | str, table: Table, where: str, given: Collection[str] = ()
) -> dict[str, Any]:
  """Returns the section with all defaults filled in, its `name` first.

  given: parameters that the code hands in when it builds, which a config cannot set.
  Raises UserError for an unknown key, a value of another type, or a missing value.
  """
  if isinstance(section, str):
    section = {'name': section}
  if not isinstance(section, Mapping):
    raise UserError(f'{where}={shown(section)}: must be a section')
  constructor, result = _choose(section, table, where)
  parameters = {k: v for k, v in _parameters(constructor).items() if k not in given}
  for key, value in section.items():
    if key not in parameters and key not in result:
      choices = [*result, *parameters]
      raise unknown(f'{_join(where, key)}={shown(value)}', key, 'unknown key', choices)
  for key, (hint, default) in parameters.items():
    if is_group(hint):
      result[key] = _complete_group(section.get(key, {}), hint, default, _join(where, key))
    elif key in section:
      result[key] = fit(section[key], hint, f'{_join(where, key)}')
    elif default is MISSING:
      raise UserError(f'{_join(where, key)}: needs a value, {describe(hint)}')
    else:
      result[key] = default
  return result


def is_group(hint: Any) -> bool:
  """Returns whether a parameter of this type is a section within the section.

  A constructor of many arguments groups them in dataclasses by subject; a key of such a group is
  set as `--config.task.search.num_simulations=32`. Where the dataclass has a table `choices` of its
  subclasses, the section's `name` chooses one.
  """
  return inspect.isclass(hint) and dataclasses.is_dataclass(hint)


def _table(group: type) -> Table:
  """Returns what the section of a group is checked against."""
  return getattr(group, 'choices', group)


def _complete_group(value: Any, group: type, default: Any, where: str) -> dict[str, Any]:
  """Returns a group's section with the defaults of the instance `default`, or of its fields."""
  value = {'name': value} if isinstance(value, str) and hasattr(group, 'choices') else value
  if not isinstance(value, Mapping):
    raise UserError(f'{where}={shown(value)}: must be a section')
  defaults = {} if default is MISSING or default is None else _shallow(default)
  return complete({**defaults, **value}, _table(group), where)


def _shallow(instance: Any) -> dict[str, Any]:
  return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def complete_sections(
  config: Mapping[str, Any],
  sections: Mapping[str, tuple[Table, Collection[str]]],
  settings: Callable[..., Any],
) -> dict[str, Any]:
  """Returns the whole config completed.

  Args:
    config: as a config file gives it.
    sections: section -> (table, parameters that the code hands in).
    settings: its signature says the values outside of sections.
  """
  outside = {key: value for key, value in config.items() if key not in sections}
  choices = [*sections, *_parameters(settings)]
  for key, value in outside.items():
    if key not in choices:
      text = '' if isinstance(value, Mapping) else f'={shown(value)}'
      raise unknown(f'{key}{text}', key, 'unknown key', choices)
  result = {
    key: complete(config.get(key, {}), table, key, given)
    for key, (table, given) in sections.items()
  }
  return {**result, **complete(outside, settings, '')}


def build(section: Mapping[str, Any], table: Table, where: str, **given: Any) -> Any:
  """Calls the section's constructor with the section's values and what is `given`."""
  values = complete(section, table, where, given)
  constructor, _ = _choose(values, table, where)
  if isinstance(table, Mapping):
    del values['name']
  for key, group in groups_of(constructor).items():
    if key in values:
      values[key] = build(values[key], _table(group), _join(where, key))
  return constructor(**values, **given)


def _choose(
  section: Mapping[str, Any], table: Table, where: str
) -> tuple[Callable[..., Any], dict[str, Any]]:
  """Returns the constructor that the section names, and {'name': ...} where there was a choice."""
  if not isinstance(table, Mapping):
    return table, {}
  name = section.get('name', next(iter(table)) if len(table) == 1 else None)
  if name is None:
    raise UserError(f'{where}.name: needs a value; choose from {", ".join(table)}')
  if not isinstance(name, str) or name not in table:
    raise unknown(f'{where}.name={shown(name)}', str(name), 'no such name', table)
  return resolve(table[name]), {'name': str(name)}


def constructor_of(section: Mapping[str, Any], table: Table, where: str) -> Callable[..., Any]:
  """Returns the constructor that a section of a config chooses."""
  table = _table(table) if inspect.isclass(table) else table
  return _choose(section, table, where)[0]


def parameters_of(constructor: Callable[..., Any]) -> list[str]:
  """Returns the names of the arguments that a config can set."""
  return list(_parameters(constructor))


def groups_of(constructor: Callable[..., Any]) -> dict[str, type]:
  """Returns the parameters that are sections within the section, and their types."""
  return {key: hint for key, (hint, _) in _parameters(constructor).items() if is_group(hint)}


def resolve(constructor: Callable[..., Any] | str) -> Callable[..., Any]:
  """Returns the constructor, imported if it is given as 'module:name'."""
  return pkgutil.resolve_name(constructor) if isinstance(constructor, str) else constructor


def _parameters(constructor: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
  """Returns name -> (type or MISSING, default or MISSING) of all that a config can set.

  Left out: linen's own `parent` and `name`, and what no JSON value can say (a function, an array).
  """
  parameters = dict(inspect.signature(constructor).parameters)
  if 'parent' in parameters:
    del parameters['parent'], parameters['name']
  hints, factories = _hints(constructor), _factories(constructor)
  result = {}
  for key, parameter in parameters.items():
    default = factories[key]() if key in factories else parameter.default
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    hint = hints.get(key, MISSING if default in (MISSING, None) else type(default))
    if not variadic and (default is MISSING or is_json(default) or is_group(hint)):
      result[key] = (hint, default)
  return result


def _hints(constructor: Callable[..., Any]) -> dict[str, Any]:
  """Returns the annotated types of a function's, a class's or a partial's parameters."""
  function = getattr(constructor, 'func', constructor)
  is_class = inspect.isclass(function) and not dataclasses.is_dataclass(function)
  try:
    return typing.get_type_hints(function.__init__ if is_class else function)
  except NameError:  # a name that only a type checker sees
    return {}


def _factories(constructor: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
  """Returns field name -> its `default_factory`, of a dataclass."""
  function = getattr(constructor, 'func', constructor)
  fields = dataclasses.fields(function) if dataclasses.is_dataclass(function) else ()
  return {
    field.name: field.default_factory
    for field in fields
    if field.default_factory is not dataclasses.MISSING
  }


def _join(where: str, key: str) -> str:
  return f'{where}.{key}' if where else key


def flat(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Returns {'model': {'name': 'lenet'}, 'seed': 0} as {'model.name': 'lenet', 'seed': 0}."""
  items: dict[str, Any] = {}
  for key, value in config.items():
    nested = isinstance(value, Mapping) and value
    items |= flat(value, f'{prefix}{key}.') if nested else {prefix + key: value}
  return items
