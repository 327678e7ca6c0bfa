// oneDNN's convolution and its two gradients as a call of XLA:CPU's programs.
//
// Arrays are float32, or all bfloat16, whose products are summed in float32; a kernel's gradient is
// float32 always, since the jobs' parts of it are yet to be summed.
//
// XLA's own threads do the work. A call is cut into equal jobs, each of them one oneDNN primitive
// that one thread runs: no second pool of threads fights with XLA's, and the bits of a result
// depend on the number of jobs alone, which was chosen when the program was traced.
//
// Nothing of size is allocated while a program runs. What oneDNN needs beside the arrays (copies
// in layouts of its own, scratch) is a second result of the call: `onednn_conv_workspace` tells
// its size while the program is traced, so XLA accounts for it and uses it again. A plan (the
// primitives) is made when XLA loads a program and destroyed with it.
//
// Plain C without the C library's headers, so that a bare machine can compile it.
#include <stddef.h>
#include <stdint.h>

#include "dnnl.h"
#include "xla/ffi/api/c_api.h"

void *calloc(size_t count, size_t size);
void free(void *memory);
int sched_yield(void);
int omp_get_max_threads(void);
void omp_set_num_threads(int count);

enum { FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT };

enum { X, K, Y, ARRAYS };  // images, kernel, outputs: two are given, one is the result

// The call's attribute, int64[SIZE], as models/cpu/onednn.py writes it. A job has N images, C of
// the ALL_C channels and F of the ALL_F outputs; the next one's arrays begin STEP numbers later.
enum {
  KIND, JOBS, N, C, F, STEP, ALL_C = STEP + ARRAYS, ALL_F, H, W, OUT_H, OUT_W, KERNEL_H, KERNEL_W,
  GROUPS, STRIDE_H, STRIDE_W, TOP, LEFT, BOTTOM, RIGHT, HALF, SIZE
};

typedef struct {
  dnnl_memory_desc_t given, wanted;  // a job's part of an array, and as the convolution takes it
  dnnl_primitive_t reorder;          // between them; NULL where they are the same
  size_t offset;                     // of the wanted one in the job's workspace
} Array;

typedef struct {
  int64_t g[SIZE];
  int result;  // X, K or Y
  Array arrays[ARRAYS];
  dnnl_primitive_t conv;
  dnnl_memory_desc_t scratch;
  size_t scratch_offset, bytes;  // of a job's workspace
} Plan;

#define TRY(call) do { const dnnl_status_t status_ = (call); if (status_) return status_; } while (0)

static dnnl_engine_t engine;

int onednn_start(void) { return dnnl_engine_create(&engine, dnnl_cpu, 0); }

// Whether the processor multiplies bfloat16 itself; oneDNN emulates it on others, slowly.
int onednn_has_bfloat16(void) {
  const int isa = dnnl_get_effective_cpu_isa(), bfloat16 = dnnl_cpu_isa_avx512_core_bf16;
  return (isa & bfloat16) == bfloat16;
}

// -------- plans --------

static dnnl_data_type_t type_of(const int64_t *g, int array) {
  const int half = g[HALF] && !(array == K && g[KIND] == KERNEL_GRADIENT);
  return half ? dnnl_bf16 : dnnl_f32;
}

static dnnl_status_t images(dnnl_memory_desc_t *desc, dnnl_data_type_t type, int64_t n, int64_t h,
                            int64_t w, int64_t channels, int64_t all_channels) {
  const dnnl_dims_t sizes = {n, channels, h, w};
  const dnnl_dims_t strides = {h * w * all_channels, 1, w * all_channels, all_channels};
  return dnnl_memory_desc_create_with_strides(desc, 4, sizes, type, strides);
}

// A kernel in whatever layout oneDNN chooses.
static dnnl_status_t kernel_of(const int64_t *g, dnnl_data_type_t type, dnnl_memory_desc_t *desc) {
  const int64_t G = g[GROUPS];
  const dnnl_dims_t sizes = {G, g[F] / G, g[C] / G, g[KERNEL_H], g[KERNEL_W]};
  const int skip = G == 1;
  return dnnl_memory_desc_create_with_tag(desc, 5 - skip, sizes + skip, type, dnnl_format_tag_any);
}

// Images and outputs [N, H, W, C], dense; of kernels [h, w, C / groups, F] oneDNN chooses a layout.
static dnnl_status_t describe(const int64_t *g, Array *a) {
  TRY(images(&a[X].given, type_of(g, X), g[N], g[H], g[W], g[C], g[ALL_C]));
  TRY(images(&a[X].wanted, type_of(g, X), g[N], g[H], g[W], g[C], g[C]));
  TRY(images(&a[Y].given, type_of(g, Y), g[N], g[OUT_H], g[OUT_W], g[F], g[ALL_F]));
  TRY(images(&a[Y].wanted, type_of(g, Y), g[N], g[OUT_H], g[OUT_W], g[F], g[F]));
  const int64_t G = g[GROUPS], pixel = g[ALL_C] / G * g[ALL_F];
  const dnnl_dims_t sizes = {G, g[F] / G, g[C] / G, g[KERNEL_H], g[KERNEL_W]};
  const dnnl_dims_t strides = {g[F] / G, 1, g[ALL_F], g[KERNEL_W] * pixel, pixel};
  const int skip = G == 1;  // groups are an axis only where there are several
  TRY(dnnl_memory_desc_create_with_strides(&a[K].given, 5 - skip, sizes + skip, type_of(g, K),
                                           strides + skip));
  return kernel_of(g, type_of(g, K), &a[K].wanted);
}

static dnnl_status_t choose(const int64_t *g, const Array *a, dnnl_primitive_desc_t *chosen) {
  const dnnl_dims_t strides = {g[STRIDE_H], g[STRIDE_W]}, dilation = {0, 0};
  const dnnl_dims_t low = {g[TOP], g[LEFT]}, high = {g[BOTTOM], g[RIGHT]};
  const dnnl_alg_kind_t direct = dnnl_convolution_direct;
  const_dnnl_memory_desc_t x = a[X].wanted, k = a[K].wanted, y = a[Y].wanted;
  dnnl_primitive_attr_t attr;
  dnnl_memory_desc_t weights;     // of the forward pass, whatever the gradient's type
  dnnl_primitive_desc_t forward;  // a hint for the gradients
  TRY(kernel_of(g, type_of(g, X), &weights));
  TRY(dnnl_primitive_attr_create(&attr));
  TRY(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user));
  TRY(dnnl_convolution_forward_primitive_desc_create(
      &forward, engine, dnnl_forward_training, direct, x, weights, NULL, y, strides, dilation, low,
      high, attr));
  dnnl_memory_desc_destroy(weights);
  *chosen = forward;
  if (g[KIND] == INPUT_GRADIENT)
    TRY(dnnl_convolution_backward_data_primitive_desc_create(
        chosen, engine, direct, x, k, y, strides, dilation, low, high, forward, attr));
  if (g[KIND] == KERNEL_GRADIENT)
    TRY(dnnl_convolution_backward_weights_primitive_desc_create(
        chosen, engine, direct, x, k, NULL, y, strides, dilation, low, high, forward, attr));
  if (g[KIND] != FORWARD) dnnl_primitive_desc_destroy(forward);
  return dnnl_primitive_attr_destroy(attr);
}

// The next place, 64-byte aligned, of a workspace that has `bytes`, for what `desc` describes.
static size_t place(size_t *bytes, dnnl_memory_desc_t desc) {
  const size_t offset = *bytes;
  *bytes += (dnnl_memory_desc_get_size(desc) + 63) / 64 * 64;
  return offset;
}

static dnnl_status_t add_reorder(Plan *plan, Array *a) {
  if (dnnl_memory_desc_equal(a->given, a->wanted)) return dnnl_success;
  const int out = a == &plan->arrays[plan->result];
  dnnl_memory_desc_t from = out ? a->wanted : a->given, to = out ? a->given : a->wanted;
  dnnl_primitive_desc_t desc;
  TRY(dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, NULL));
  TRY(dnnl_primitive_create(&a->reorder, desc));
  a->offset = place(&plan->bytes, a->wanted);
  return dnnl_primitive_desc_destroy(desc);
}

static dnnl_status_t fill(Plan *plan) {
  Array *a = plan->arrays;
  dnnl_primitive_desc_t chosen;
  TRY(describe(plan->g, a));
  TRY(choose(plan->g, a, &chosen));
  const dnnl_query_t kernel =
      plan->result == K ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
  dnnl_memory_desc_destroy(a[K].wanted);
  TRY(dnnl_memory_desc_clone(&a[K].wanted, dnnl_primitive_desc_query_md(chosen, kernel, 0)));
  TRY(dnnl_memory_desc_clone(&plan->scratch,
                             dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0)));
  for (int i = 0; i < ARRAYS; i++) TRY(add_reorder(plan, &a[i]));
  plan->scratch_offset = place(&plan->bytes, plan->scratch);
  TRY(dnnl_primitive_create(&plan->conv, chosen));
  return dnnl_primitive_desc_destroy(chosen);
}

static void destroy(void *object) {
  Plan *plan = object;
  for (Array *a = plan->arrays; a < plan->arrays + ARRAYS; a++) {
    dnnl_memory_desc_destroy(a->given), dnnl_memory_desc_destroy(a->wanted);
    dnnl_primitive_destroy(a->reorder);
  }
  dnnl_memory_desc_destroy(plan->scratch), dnnl_primitive_destroy(plan->conv);
  free(plan);
}

// NULL where oneDNN has no such convolution.
static Plan *make_plan(const int64_t *g) {
  Plan *plan = calloc(1, sizeof(Plan));
  for (int i = 0; i < SIZE; i++) plan->g[i] = g[i];
  plan->result = g[KIND] == FORWARD ? Y : g[KIND] == INPUT_GRADIENT ? X : K;
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);  // oneDNN plans for as many as the thread that asks may have
  const dnnl_status_t status = fill(plan);
  omp_set_num_threads(threads);
  if (status) destroy(plan);
  return status ? NULL : plan;
}

// Bytes of the call's second result; -1 where oneDNN has no such convolution.
int64_t onednn_conv_workspace(const int64_t *g) {
  Plan *plan = make_plan(g);
  if (!plan) return -1;
  const int64_t bytes = plan->bytes * g[JOBS];
  destroy(plan);
  return bytes;
}

// -------- running --------

typedef struct {
  const Plan *plan;
  char *arrays[ARRAYS];
  char *workspace;
  int64_t jobs, next, done, users;
  dnnl_status_t status;
} Run;

static int64_t add(int64_t *number, int64_t more) {
  return __atomic_fetch_add(number, more, __ATOMIC_SEQ_CST);
}

static dnnl_status_t reorder(const Array *a, dnnl_stream_t stream, dnnl_memory_t from,
                             dnnl_memory_t to) {
  const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
  return a->reorder ? dnnl_primitive_execute(a->reorder, stream, 2, args) : dnnl_success;
}

static dnnl_status_t run_job(const Run *run, int64_t job) {
  const Plan *plan = run->plan;
  const int64_t *g = plan->g, out = plan->result;
  const Array *a = plan->arrays;
  char *workspace = run->workspace + job * plan->bytes;
  dnnl_memory_t given[ARRAYS], wanted[ARRAYS], scratch;
  dnnl_stream_t stream;
  TRY(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
  TRY(dnnl_memory_create(&scratch, plan->scratch, engine, workspace + plan->scratch_offset));
  for (int i = 0; i < ARRAYS; i++) {
    const size_t size = dnnl_data_type_size(type_of(g, i));
    char *data = run->arrays[i] + job * g[STEP + i] * size;
    TRY(dnnl_memory_create(&given[i], a[i].given, engine, data));
    void *own = a[i].reorder ? (void *)(workspace + a[i].offset) : data;
    TRY(dnnl_memory_create(&wanted[i], a[i].wanted, engine, own));
    if (i != out) TRY(reorder(&a[i], stream, given[i], wanted[i]));
  }
  const dnnl_exec_arg_t args[] = {
    {out == X ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, wanted[X]},
    {out == K ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, wanted[K]},
    {out == Y ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, wanted[Y]},
    {DNNL_ARG_SCRATCHPAD, scratch},
  };
  TRY(dnnl_primitive_execute(plan->conv, stream, 4, args));
  TRY(reorder(&a[out], stream, wanted[out], given[out]));
  for (int i = 0; i < ARRAYS; i++) dnnl_memory_destroy(given[i]), dnnl_memory_destroy(wanted[i]);
  dnnl_memory_destroy(scratch);
  return dnnl_stream_destroy(stream);
}

// Runs jobs until none is left; a thread that comes too late finds none.
static void work(void *data) {
  Run *run = data;
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  for (int64_t job; (job = add(&run->next, 1)) < run->jobs; add(&run->done, 1)) {
    const dnnl_status_t status = run_job(run, job);
    if (status) run->status = status;
  }
  omp_set_num_threads(threads);
  if (add(&run->users, -1) == 1) free(run);
}

// The caller works, too, and waits only for jobs that a thread has begun: not for a thread that
// waits itself, even when all threads of the pool are in calls of this kind.
static dnnl_status_t run_all(XLA_FFI_CallFrame *frame, Run *run) {
  for (int64_t i = 1; i < run->jobs; i++) {
    XLA_FFI_ThreadPool_Schedule_Args args = {
      XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, NULL, frame->ctx, work, run};
    add(&run->users, 1);
    if (frame->api->XLA_FFI_ThreadPool_Schedule(&args)) add(&run->users, -1);  // no pool
  }
  add(&run->users, 1);
  work(run);
  while (add(&run->done, 0) < run->jobs) sched_yield();
  const dnnl_status_t status = run->status;
  if (add(&run->users, -1) == 1) free(run);
  return status;
}

// -------- what XLA calls --------

static XLA_FFI_Error *error(XLA_FFI_CallFrame *frame, const char *message) {
  XLA_FFI_Error_Create_Args args = {
    XLA_FFI_Error_Create_Args_STRUCT_SIZE, NULL, message, XLA_FFI_Error_Code_INTERNAL};
  return frame->api->XLA_FFI_Error_Create(&args);
}

// XLA asks each handler once for which version of its interface it was made.
static int asked_version(XLA_FFI_CallFrame *frame) {
  if (!frame->extension_start || frame->extension_start->type != XLA_FFI_Extension_Metadata)
    return 0;
  XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  return 1;
}

static XLA_FFI_TypeId plan_type;

// Tells XLA, once, how a plan is destroyed.
static XLA_FFI_Error *register_type(XLA_FFI_CallFrame *frame) {
  static const XLA_FFI_TypeInfo info = {XLA_FFI_TypeInfo_STRUCT_SIZE, NULL, destroy};
  static int64_t callers, registered;
  XLA_FFI_Error *failed = NULL;
  if (add(&callers, 1) == 0) {
    XLA_FFI_Type_Register_Args args = {
      XLA_FFI_Type_Register_Args_STRUCT_SIZE, NULL, {"onednn_plan", 11}, &plan_type, &info};
    failed = frame->api->XLA_FFI_Type_Register(&args);
    add(&registered, 1);
  }
  while (!add(&registered, 0)) sched_yield();
  return failed;
}

XLA_FFI_Error *onednn_conv_instantiate(XLA_FFI_CallFrame *frame) {
  if (asked_version(frame)) return NULL;
  XLA_FFI_Error *failed = register_type(frame);
  if (failed) return failed;
  Plan *plan = make_plan(((XLA_FFI_Array *)frame->attrs.attrs[0])->data);
  if (!plan) return error(frame, "oneDNN has no such convolution");
  XLA_FFI_State_Set_Args args = {
    XLA_FFI_State_Set_Args_STRUCT_SIZE, NULL, frame->ctx, frame->stage, &plan_type, plan};
  return frame->api->XLA_FFI_State_Set(&args);
}

XLA_FFI_Error *onednn_conv(XLA_FFI_CallFrame *frame) {
  if (asked_version(frame)) return NULL;
  XLA_FFI_State_Get_Args state = {XLA_FFI_State_Get_Args_STRUCT_SIZE, NULL, frame->ctx,
                                  XLA_FFI_ExecutionStage_INSTANTIATE, &plan_type, NULL};
  XLA_FFI_Error *failed = frame->api->XLA_FFI_State_Get(&state);
  if (failed) return failed;
  XLA_FFI_Buffer **in = (XLA_FFI_Buffer **)frame->args.args;
  XLA_FFI_Buffer **out = (XLA_FFI_Buffer **)frame->rets.rets;
  Run *run = calloc(1, sizeof(Run));
  run->plan = state.state, run->jobs = run->plan->g[JOBS], run->users = 1;
  const int result = run->plan->result;
  run->arrays[result] = out[0]->data, run->workspace = out[1]->data;
  run->arrays[result == X ? K : X] = in[0]->data, run->arrays[result == Y ? K : Y] = in[1]->data;
  return run_all(frame, run) ? error(frame, "oneDNN's convolution failed") : NULL;
}
