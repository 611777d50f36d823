// Spectral norm of a list of weights on the GPU: check, cut into blocks, launch. The number of launches does not depend
// on the number of layers: forward 2 per power iteration and 1 (2 in all without one), backward 2, double backward 2.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/spectral_norm_arguments.h"
#include "cuda/device/launch_context.h"
#include "cuda/spectral_norm.cuh"

namespace fastgan {
namespace {

List empty_like(const List& list) {
  List out;
  out.reserve(list.size());
  for (const Tensor& t : list) out.push_back(torch::stable::new_empty(t, t.sizes()));
  return out;
}

List empty_scalars(const List& list) {
  List out;
  out.reserve(list.size());
  for (const Tensor& t : list) out.push_back(torch::stable::new_empty(t, {}));
  return out;
}

// ---------------------------------------------------------------------------------------------- blocks

bool is_aligned(const Tensor& t) { return reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0; }

int64_t count_elements(const List& list) {
  int64_t total = 0;
  for (const Tensor& t : list) total += t.numel();
  return total;
}

// Cuts one weight after another. A row block has 1/256 of the network's elements, so that a large network keeps every
// multiprocessor at work, but at least 16 KiB of fp32 or 8 rows: the shares of W^T t, one row of them for each row
// block, should stay small beside W. Nothing depends on the device: every GPU sums the same terms in the same order.
template <class T>
class Cutter {
 public:
  explicit Cutter(const List& weights) : elements_(std::max<int64_t>(4096, count_elements(weights) / 256)) {}

  // `beside`: the other tensors that are read or written in packs along a row.
  RowBlocks cut(const Tensor& weight, std::initializer_list<const Tensor*> beside) {
    RowBlocks m;
    m.rows = weight.size(0);
    m.cols = weight.numel() / m.rows;
    const int64_t rows_each = std::min(m.rows, std::max<int64_t>(8, elements_ / m.cols));
    const int64_t count = (m.rows + rows_each - 1) / rows_each;
    STD_TORCH_CHECK(std::max(rows_each, total_ + count) <= INT32_MAX,
                    "spectral_norm: the weights have more row blocks than the 2^31 - 1 of one launch");
    m.rows_each = rows_each;
    m.first = total_;
    m.blocks = count;
    m.lanes = lanes(m);
    m.aligned = m.cols % pack_size<T> == 0 && is_aligned(weight);
    for (const Tensor* t : beside) m.aligned = m.aligned && is_aligned(*t);
    total_ += m.blocks;
    return m;
  }

  int64_t total() const { return total_; }

 private:
  // A warp for a row. Fewer threads for a short row, more if there are fewer rows than warps.
  static int lanes(const RowBlocks& m) {
    const int64_t packs = (m.cols + pack_size<T> - 1) / pack_size<T>;
    int lanes = kFewestLanes;
    while (lanes < packs && (lanes < kWarp || (lanes < kThreads && kThreads / lanes > m.rows_each))) lanes *= 2;
    return lanes;
  }

  int64_t elements_;
  int64_t total_ = 0;
};

constexpr int64_t kSharedForTwo = 40 * 1024;  // bytes of shared memory with which two blocks fit on any multiprocessor

// Threads that share a row in spectral_norm_multiply_kernel: as in the other kernels, or more, so that fewer rows at a
// time are kept in shared memory. Beyond `limit` bytes for one row it is 0: rows are not kept.
template <class T>
int product_lanes(const ForwardLayer<T>& layer, int64_t limit) {
  int lanes = layer.lanes;
  while (lanes < kThreads && shared_bytes<T>(layer.width(), lanes) > kSharedForTwo) lanes *= 2;
  return shared_bytes<T>(layer.width(), lanes) <= limit ? lanes : 0;
}

// ---------------------------------------------------------------------------------------------- ops

std::tuple<List, List, List, List> spectral_norm(const List& weights_in, const List& us_in, const List& vs_in,
                                                 int64_t n_power_iterations, double eps, bool update) {
  const char* op = "spectral_norm";
  check_iteration(op, n_power_iterations, eps);
  const SpectralNormArguments a(op, weights_in, us_in, vs_in, GPU_IS_CUDA);
  const List &weights = a.weights, &us = a.us, &vs = a.vs;
  const List normalized = empty_like(weights), sigmas = empty_scalars(weights);
  const List new_us = empty_like(us), new_vs = empty_like(vs);
  if (weights.empty()) return {normalized, sigmas, new_us, new_vs};

  dispatch_floating(a.dtype(), op, [&](auto tag) {
    using T = gpu_t<decltype(tag)>;
    using A = accumulate_t<T>;
    LaunchContext context(weights[0]);
    Cutter<T> cutter(weights);
    std::vector<ForwardLayer<T>> layers(weights.size());
    const int64_t shared_limit = gpu::shared_memory_limit(), elements = count_elements(weights);
    int64_t column_blocks = 0, shared = 0;
    for (size_t i = 0; i < layers.size(); i++) {
      ForwardLayer<T>& layer = layers[i];
      static_cast<RowBlocks&>(layer) = cutter.cut(weights[i], {&vs[i], &normalized[i]});
      layer.weight = context.input<T>(weights[i], "weight");
      layer.u = context.input<T>(us[i], "u");
      layer.v = context.input<T>(vs[i], "v");
      layer.normalized = context.output<T>(normalized[i], "normalized");
      layer.new_u = context.output<T>(new_us[i], "new_u");
      layer.new_v = context.output<T>(new_vs[i], "new_v");
      layer.sigma = context.output<T>(sigmas[i], "sigma");
      layer.first_column_block = column_blocks;
      column_blocks += layer.column_blocks();
      // All blocks of a launch get the same shared memory: only a large layer is worth more than two blocks can have.
      const bool is_large = layer.rows * layer.cols >= elements / 8;
      layer.product_lanes = product_lanes(layer, is_large ? shared_limit : std::min(shared_limit, kSharedForTwo));
      if (layer.product_lanes) shared = std::max(shared, shared_bytes<T>(layer.width(), layer.product_lanes));
    }
    context.workspace([&](const auto& take) {
      for (ForwardLayer<T>& layer : layers) {
        layer.row_block_sums = take(A{}, layer.blocks, "row_block_sums");
        if (!update) continue;
        layer.t = take(A{}, layer.rows, "t");
        layer.x = take(A{}, layer.width(), "x");
        layer.shares = take(A{}, layer.blocks * layer.width(), "shares");
        layer.column_block_sums = take(A{}, layer.column_blocks(), "column_block_sums");
      }
    });

    const Table<ForwardLayer<T>> table = context.table(layers);
    const auto launch = [&](const char* name, auto kernel, int64_t blocks, size_t shared_bytes, auto... arguments) {
      context.launch(name, kernel, blocks, kThreads, shared_bytes, table, arguments...);
    };
    if (update) {
      for (int64_t i = 0; i < n_power_iterations; i++) {
        launch("spectral_norm_multiply_kernel", &spectral_norm_multiply_kernel<T>, cutter.total(), shared, A(eps),
               i == 0);
        launch("spectral_norm_add_kernel", &spectral_norm_add_kernel<T>, column_blocks, 0, A(eps));
      }
    } else {
      launch("spectral_norm_project_kernel", &spectral_norm_project_kernel<T>, cutter.total(), 0);
    }
    launch("spectral_norm_normalize_kernel", &spectral_norm_normalize_kernel<T>, cutter.total(), 0, A(eps), update);
  });
  return {normalized, sigmas, new_us, new_vs};
}

List spectral_norm_backward(const List& grads_in, const List& grad_sigmas_in, const List& weights_in,
                            const List& sigmas_in, const List& us_in, const List& vs_in, const OutputMask& wanted) {
  const char* op = "spectral_norm_backward";
  check_mask(op, wanted, 1);
  const SpectralNormDerivativeArguments a(op, grads_in, weights_in, sigmas_in, us_in, vs_in, GPU_IS_CUDA);
  const List &weights = a.weights, &grads = a.grads, &sigmas = a.sigmas, &us = a.us, &vs = a.vs;
  const List grad_sigmas = checked_list(op, "grad_sigmas", grad_sigmas_in, weights, Kind::scalar, GPU_IS_CUDA);
  const List grad_weights = empty_like(weights);
  if (weights.empty()) return grad_weights;

  dispatch_floating(a.dtype(), op, [&](auto tag) {
    using T = gpu_t<decltype(tag)>;
    using A = accumulate_t<T>;
    LaunchContext context(weights[0]);
    Cutter<T> cutter(weights);
    std::vector<BackwardLayer<T>> layers(weights.size());
    for (size_t i = 0; i < layers.size(); i++) {
      BackwardLayer<T>& layer = layers[i];
      static_cast<RowBlocks&>(layer) = cutter.cut(weights[i], {&grads[i], &vs[i], &grad_weights[i]});
      layer.grad = context.input<T>(grads[i], "grad");
      layer.grad_sigma = context.input<T>(grad_sigmas[i], "grad_sigma");
      layer.weight = context.input<T>(weights[i], "weight");
      layer.sigma = context.input<T>(sigmas[i], "sigma");
      layer.u = context.input<T>(us[i], "u");
      layer.v = context.input<T>(vs[i], "v");
      layer.grad_weight = context.output<T>(grad_weights[i], "grad_weight");
    }
    context.workspace([&](const auto& take) {
      for (BackwardLayer<T>& layer : layers) layer.sums = take(A{}, layer.blocks, "sums");
    });
    const Table<BackwardLayer<T>> table = context.table(layers);
    context.launch("spectral_norm_backward_sums_kernel", &spectral_norm_backward_sums_kernel<T>, cutter.total(),
                   kThreads, 0, table);
    context.launch("spectral_norm_backward_weights_kernel", &spectral_norm_backward_weights_kernel<T>, cutter.total(),
                   kThreads, 0, table);
  });
  return only_wanted(wanted[0], grad_weights);
}

std::tuple<List, List, List, List> spectral_norm_double_backward(const List& hs_in, const List& grads_in,
                                                                 const List& weights_in, const List& sigmas_in,
                                                                 const List& us_in, const List& vs_in,
                                                                 const OutputMask& wanted) {
  const char* op = "spectral_norm_double_backward";
  check_mask(op, wanted, 4);
  const SpectralNormDerivativeArguments a(op, grads_in, weights_in, sigmas_in, us_in, vs_in, GPU_IS_CUDA);
  const List &weights = a.weights, &grads = a.grads, &sigmas = a.sigmas, &us = a.us, &vs = a.vs;
  const List hs = checked_list(op, "hs", hs_in, weights, Kind::weight, GPU_IS_CUDA);
  const List d_grads = empty_like(weights), d_weights = empty_like(weights);
  const List d_grad_sigmas = empty_scalars(weights), d_sigmas = empty_scalars(weights);
  if (weights.empty()) return {d_grads, d_grad_sigmas, d_weights, d_sigmas};

  dispatch_floating(a.dtype(), op, [&](auto tag) {
    using T = gpu_t<decltype(tag)>;
    using A = accumulate_t<T>;
    LaunchContext context(weights[0]);
    Cutter<T> cutter(weights);
    std::vector<DoubleBackwardLayer<T>> layers(weights.size());
    for (size_t i = 0; i < layers.size(); i++) {
      DoubleBackwardLayer<T>& layer = layers[i];
      static_cast<RowBlocks&>(layer) = cutter.cut(weights[i], {&hs[i], &grads[i], &vs[i], &d_grads[i], &d_weights[i]});
      layer.h = context.input<T>(hs[i], "h");
      layer.grad = context.input<T>(grads[i], "grad");
      layer.weight = context.input<T>(weights[i], "weight");
      layer.sigma = context.input<T>(sigmas[i], "sigma");
      layer.u = context.input<T>(us[i], "u");
      layer.v = context.input<T>(vs[i], "v");
      layer.d_grad = context.output<T>(d_grads[i], "d_grad");
      layer.d_grad_sigma = context.output<T>(d_grad_sigmas[i], "d_grad_sigma");
      layer.d_weight = context.output<T>(d_weights[i], "d_weight");
      layer.d_sigma = context.output<T>(d_sigmas[i], "d_sigma");
    }
    context.workspace([&](const auto& take) {
      for (DoubleBackwardLayer<T>& layer : layers) layer.sums = take(A{}, 3 * int64_t(layer.blocks), "sums");
    });
    const Table<DoubleBackwardLayer<T>> table = context.table(layers);
    context.launch("spectral_norm_double_backward_sums_kernel", &spectral_norm_double_backward_sums_kernel<T>,
                   cutter.total(), kThreads, 0, table);
    context.launch("spectral_norm_double_backward_outputs_kernel", &spectral_norm_double_backward_outputs_kernel<T>,
                   cutter.total(), kThreads, 0, table);
  });
  return {only_wanted(wanted[0], d_grads), only_wanted(wanted[1], d_grad_sigmas), only_wanted(wanted[2], d_weights),
          only_wanted(wanted[3], d_sigmas)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(GPU_LIBRARY, GPU_KEY, m) {
  m.impl("spectral_norm", TORCH_BOX(&spectral_norm));
  m.impl("spectral_norm_backward", TORCH_BOX(&spectral_norm_backward));
  m.impl("spectral_norm_double_backward", TORCH_BOX(&spectral_norm_double_backward));
}

}  // namespace fastgan
