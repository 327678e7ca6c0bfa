# ruff: noqa: E501
"""What is read from the text of a compiled program, against a few lines that XLA has printed."""

import numpy as np
import pytest

from train.aot import replica_groups
from train.aot.hlo import Program

# Two microbatches of three layers: a gather in the layers' loop, a sum in the microbatches'.
TEXT = """HloModule jit_step, is_scheduled=true

FileNames
1 "/here/models/gpt/model.py"
2 "/elsewhere/site-packages/optax/update.py"

FunctionNames
1 "loss"

FileLocations
1 {file_name_id=1 function_name_id=1 line=155 end_line=155 column=16 end_column=16}
2 {file_name_id=2 function_name_id=1 line=7 end_line=7 column=1 end_column=1}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}


%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%counted (p: (s32[], f32[8])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(3)
  ROOT %lt.1 = pred[] compare(%index, %constant.1), direction=LT
}

%all-reduce-scatter.1 (input: f32[64]) -> f32[32] {
  %all-reduce.5 = f32[64]{0} all-reduce(%input), channel_id=9, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  ROOT %part = f32[32] dynamic-slice(%all-reduce.5)
}

%layer (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %all-gather.1 = bf16[16,8]{1,0} all-gather(%w), channel_id=3, replica_groups=mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_1'}, dimensions={0}, metadata={op_name="jit(step)/layer" stack_frame_id=2}
  %all-gather.2 = bf16[16,8]{1,0} all-gather(%w), channel_id=4, replica_groups=[4,2]<=[8], frontend_attributes={chain_id="1"}
  %all-gather.3 = bf16[16,8]{1,0} all-gather(%w), channel_id=4, replica_groups=[4,2]<=[8], frontend_attributes={chain_id="1"}
  %fusion.1 = f32[32] fusion(%g), kind=kCustom, calls=%all-reduce-scatter.1
  %conv.1 = f32[8] convolution(%a, %b), custom_call_target="none"
}

%microbatch (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %while.1 = (s32[], f32[8]) while(%t), condition=%counted, body=%layer
  %start = ((f32[4]{0}, f32[6]{0}), (f32[8]{0}, f32[12]{0})) all-gather-start(%a, %b), channel_id=5, replica_groups=[2,4]<=[4,2]T(1,0)
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %while.2 = (s32[], f32[8]) while(%t), condition=%other, body=%microbatch, backend_config={"known_trip_count":{"n":"2"}}
  %all-reduce.1 = f32[] all-reduce(%x), channel_id=6, replica_groups={}, to_apply=%add
}
"""
MESH = {'data': 2, 'fsdp': 2, 'tensor': 2}


def collectives(hosts=()):
  return {(one.kind, one.size): one for one in Program(TEXT, MESH, hosts, '/here/').collectives()}


def test_a_collective_counts_as_often_as_its_loops_turn():
  found = collectives()
  # 2 microbatches x 3 layers; a chain of fusions is one gather.
  assert found['all-gather', 16 * 8 * 2].times == 6
  assert found['all-gather', (8 + 12) * 4].times == 2
  assert found['all-reduce', 4].times == 1


def test_a_windowed_products_loop_counts_without_a_sign():
  text = TEXT.replace('%constant.1 = s32[]', '%constant.1 = u32[]')
  assert text != TEXT
  assert Program(text, MESH).collectives() == Program(TEXT, MESH).collectives()


def test_a_loop_that_is_unrolled_turns_less_often():
  text = """%counted (p: (u32[], f32[8])) -> pred[] {
  %limit = u32[] constant(32)
  %index = u32[] get-tuple-element(%p), index=1
  ROOT %lt = pred[] compare(%index, %limit), direction=LT
}

%body (p: (f32[8], u32[])) -> (f32[8], u32[]) {
  %permute.1 = f32[8] collective-permute(%x), source_target_pairs={{0,1},{1,0}}
  %two = u32[] constant(2)
  %next = u32[] add(%index, %two)
  ROOT %tuple = (f32[8], u32[]) tuple(%permute.1, %next)
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %while = (f32[8], u32[]) while(%t), condition=%counted, body=%body
}
"""
  (one,) = Program(text, {'data': 2}).collectives()
  assert one.times == 16


def test_axes_are_those_along_which_devices_differ():
  found = collectives()
  assert found['all-gather', (8 + 12) * 4].axes == ('data', 'fsdp')
  assert found['all-reduce', 4].axes == ('data', 'fsdp', 'tensor')
  assert {one.axes for one in Program(TEXT, MESH).collectives() if one.size == 256} == {
    ('fsdp',),
    ('tensor',),
  }


def test_a_reduction_whose_parts_are_kept_is_a_scatter():
  # In a fusion the whole array is summed, in name; no device is sent more than its part.
  one = collectives()['reduce-scatter', 64 * 4]
  assert one.axes == ('tensor',)
  assert one.sent == 6 * 256 / 2


@pytest.mark.parametrize(
  'kind, sent', [('all-gather', 3 / 4), ('all-reduce', 6 / 4), ('reduce-scatter', 3 / 4)]
)
def test_bytes_sent_are_those_of_the_ring(kind, sent):
  shape = 'f32[25]' if kind == 'reduce-scatter' else 'f32[100]'
  line = f'  %x = {shape} {kind}(%y), channel_id=1, replica_groups=[1,4]<=[4]'
  text = 'ENTRY %main (p: f32[]) -> f32[] {\n' + line + '\n}\n'
  (one,) = Program(text, {'data': 4}).collectives()
  assert one.size == 400
  assert one.sent == 400 * sent


def test_the_source_is_the_innermost_line_of_this_code():
  assert {one.source for one in Program(TEXT, MESH, (), '/here/').collectives()} == {
    'models/gpt/model.py:155',
    '',
  }


def test_what_goes_between_hosts_is_far():
  found = collectives(hosts=[0, 0, 0, 0, 1, 1, 1, 1])
  assert found['all-gather', (8 + 12) * 4].far  # over data, which is the hosts'
  assert not found['reduce-scatter', 64 * 4].far


def test_kernels_are_counted_by_name():
  assert Program(TEXT, MESH).kernels() == {'convolution': 1, 'none': 1}


@pytest.mark.parametrize(
  'text, groups',
  [
    ('replica_groups={{0,2},{1,3}}', [[0, 2], [1, 3]]),
    ('replica_groups=[2,2]<=[4]', [[0, 1], [2, 3]]),
    ('replica_groups=[2,2]<=[2,2]T(1,0)', [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", [[0, 1, 2, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
    ('source_target_pairs={{0,1},{2,3}}', [[0, 1], [2, 3]]),
    ('replica_groups={}', [[0, 1, 2, 3]]),
  ],
)
def test_groups_are_read_in_each_of_the_ways_that_they_are_written(text, groups):
  np.testing.assert_array_equal(
    replica_groups.read(f'  %x = f32[] all-reduce(), {text}, a', 4), groups
  )
