"""TensorBoard events: scalars, images, texts and hyperparameters, without TensorFlow."""

import contextlib
import io
import os
import socket
import sys
import time
import types
from collections.abc import Mapping
from typing import Any

from PIL import Image

from train.errors import plain
from train.logging.writers import is_image, stem


class TensorBoard:
  """Writes with TensorBoard's own writer; voids what an earlier start left of steps from `step` on.

  Args:
    workdir: where the events lie.
    step: the first that is written.
    config: key -> value, for the tab of hyperparameters.
  """

  def __init__(self, workdir: str, step: int, config: Mapping[str, Any]) -> None:
    # Tells TensorBoard to do without TensorFlow where that is installed.
    sys.modules.setdefault('tensorboard.compat.notf', types.ModuleType('notf'))
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.hparams import summary_v2 as hparams
    from tensorboard.summary.writer.record_writer import RecordWriter

    self._event, self._summary = event_pb2, summary_pb2.Summary
    now = time.time_ns()
    name = f'events.out.tfevents.{now // 10**9:010d}.{socket.gethostname()}.{os.getpid()}.{now}'
    # Not by TensorBoard's thread, in which a full disk would end in a traceback.
    self._writer = RecordWriter(open(os.path.join(workdir, name), 'wb'))  # noqa: SIM115
    self._add(0, file_version='brain.Event:2')
    self._add(step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
    numbers = bool | int | float
    known = {k: x if isinstance(x, numbers) else plain(str(x)) for k, x in config.items()}
    if known:
      self._add(0, summary=hparams.hparams_pb(known, trial_id=workdir))

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes a point of each curve."""
    points = [self._summary.Value(tag=name, simple_value=x) for name, x in values.items()]
    self._add(step, summary=self._summary(value=points))

  def files(self, step: int, files: Mapping[str, bytes]) -> None:
    """Writes images and texts."""
    make = {True: self._image, False: self._text}
    values = [make[is_image(name)](stem(name), contents) for name, contents in files.items()]
    self._add(step, summary=self._summary(value=values))

  def close(self) -> None:
    """Closes the file."""
    with contextlib.suppress(OSError):  # of a full disk, which `_add` has told
      self._writer.close()

  def _image(self, tag: str, png: bytes) -> Any:
    with Image.open(io.BytesIO(png)) as image:
      width, height, channels = *image.size, len(image.getbands())
    shown = self._summary.Image(
      height=height, width=width, colorspace=channels, encoded_image_string=png
    )
    return self._summary.Value(tag=tag, image=shown)

  def _text(self, tag: str, contents: bytes) -> Any:
    from tensorboard.compat.proto import tensor_pb2, tensor_shape_pb2, types_pb2
    from tensorboard.plugins.text import metadata

    # As Markdown's code, in which nothing of the text is taken for Markdown.
    lines = contents.decode('utf-8', 'replace').splitlines()
    text = '\n'.join(f'    {line}' for line in lines)
    tensor = tensor_pb2.TensorProto(
      dtype=types_pb2.DT_STRING,
      string_val=[text.encode()],
      tensor_shape=tensor_shape_pb2.TensorShapeProto(),
    )
    about = metadata.create_summary_metadata(display_name='', description='')
    return self._summary.Value(tag=tag, metadata=about, tensor=tensor)

  def _add(self, step: int, **content: Any) -> None:
    event = self._event.Event(wall_time=time.time(), step=step, **content)
    self._writer.write(event.SerializeToString())
    self._writer.flush()
