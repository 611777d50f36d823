// The gradient penalty on the GPU. Every op passes over the gradient once: it reads what it needs of it, writes its
// output, and leaves one sum for each segment of a sample. A kernel of one block adds these up in a fixed order.
#pragma once

#include "common/penalty.h"
#include "cuda/device/pack.h"
#include "cuda/device/sum.h"

namespace fastgan {

// How the samples, rows of `cols` elements, are cut. A short row has a team of a warp or a part of one to itself, and a
// block has many rows; a long one has one or several blocks, a segment of the row each.
struct Samples {
  int64_t rows, cols;
  int64_t segment;  // columns of a segment, whole packs
  int segments;     // of a row
  int lanes;        // of a team: a power of two up to a warp, or kThreads
  bool aligned;     // every row starts on 16 bytes and ends on a whole pack

  __host__ __device__ __forceinline__ int teams() const { return kThreads / lanes; }
  __host__ __device__ __forceinline__ int64_t blocks() const { return (rows * segments + teams() - 1) / teams(); }
};

// The segment that is this thread's team's, and the thread's place in the team.
struct Place {
  int64_t item, row, begin, end;
  int lane;

  __device__ __forceinline__ explicit Place(const Samples& s) {
    item = int64_t(blockIdx.x) * s.teams() + threadIdx.x / s.lanes;
    lane = threadIdx.x % s.lanes;
    row = item / s.segments;
    begin = item % s.segments * s.segment;
    end = row < s.rows ? min(s.cols, begin + s.segment) : begin;  // the last teams may have none
  }
};

template <class T, bool aligned, class Body>
__device__ __forceinline__ void visit_segment(const Samples& s, const Place& place, const Body& body) {
#pragma unroll(aligned ? 4 : 1)
  for (int64_t col = place.begin + place.lane * pack_size<T>; col < place.end; col += s.lanes * pack_size<T>) {
    body(Access<aligned>{place.end - col}, place.row * s.cols + col);
  }
}

// body(access, at) for every pack of the segment that is this thread's.
template <class T, class Body>
__device__ __forceinline__ void for_each_pack(const Samples& s, const Place& place, const Body& body) {
  if (s.aligned) {
    visit_segment<T, true>(s, place, body);
  } else {
    visit_segment<T, false>(s, place, body);
  }
}

// The team's sum of x, written by one of its threads to sums[item]. All threads of the block call.
template <class A>
__device__ __forceinline__ void leave_sum(const Samples& s, const Place& place, A x, A* sums) {
  x = s.lanes == kThreads ? block_sum(x) : lane_sum(x, s.lanes);
  if (place.lane == 0 && place.row < s.rows) sums[place.item] = x;
}

// body(row, sum of the row's segments), in one thread for each row; the kernel has one block, and all its threads call.
// A team of `lanes` threads, a power of two up to a warp, adds up a row.
template <class A, class Body>
__device__ __forceinline__ void for_each_row_sum(const Samples& s, const A* sums, const Body& body) {
  int lanes = 1;
  while (lanes < s.segments && lanes < kWarp) lanes *= 2;
  const int teams = kThreads / lanes, lane = threadIdx.x % lanes;
  for (int64_t first = 0; first < s.rows; first += teams) {
    const int64_t row = first + threadIdx.x / lanes;
    A x = 0;
    if (row < s.rows) {
#pragma unroll 1
      for (int i = lane; i < s.segments; i += lanes) x += sums[row * s.segments + i];
    }
    x = lane_sum(x, lanes);
    if (lane == 0 && row < s.rows) body(row, x);
  }
}

// ---------------------------------------------------------------------------------------------- forward

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    grad_norm_penalty_squares_kernel(Samples s, const T* grad, accumulate_t<T>* sums) {
  using A = accumulate_t<T>;
  const Place place(s);
  A squares = 0;
  for_each_pack<T>(s, place, [&](auto access, int64_t at) {
    const Pack<T> g = access.load(grad + at);
    squares = dot(g, g, squares);
  });
  leave_sum(s, place, squares, sums);
}

// One block: n_i = sqrt(|g_i|^2 + eps), and the mean of f(n_i).
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    grad_norm_penalty_norms_kernel(Samples s, PenaltyKind kind, accumulate_t<T> target, accumulate_t<T> eps,
                                   const accumulate_t<T>* sums, accumulate_t<T>* norms, accumulate_t<T>* penalty) {
  using A = accumulate_t<T>;
  A total = 0;
  for_each_row_sum(s, sums, [&](int64_t row, A squares) {
    const A n = sqrt(squares + eps);
    norms[row] = n;
    total += penalty_value<A>(kind, n, target);
  });
  total = block_sum(total);
  if (threadIdx.x == 0) *penalty = total / A(s.rows);
}

// ---------------------------------------------------------------------------------------------- backward

// Both derivatives' inputs beside the gradient.
template <class A>
struct Cotangents {
  PenaltyKind kind;
  A target;
  const A *grad_penalty, *grad_norms, *norms;  // (), (rows,), (rows,)

  __device__ __forceinline__ A share(const Samples& s) const { return *grad_penalty / A(s.rows); }
  // What a sample's gradient is multiplied by.
  __device__ __forceinline__ A factor(const Samples& s, int64_t row) const {
    return row < s.rows ? penalty_factor<A>(kind, norms[row], target, share(s), grad_norms[row]) : A(0);
  }
};

template <class T>
__device__ __forceinline__ Pack<T> scaled(Pack<T> pack, accumulate_t<T> factor) {
#pragma unroll
  for (int k = 0; k < pack_size<T>; k++) pack.at[k] = T(accumulate_t<T>(pack.at[k]) * factor);
  return pack;
}

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    grad_norm_penalty_backward_kernel(Samples s, Cotangents<accumulate_t<T>> c, const T* grad, T* d_grad) {
  const Place place(s);
  const accumulate_t<T> factor = c.factor(s, place.row);
  for_each_pack<T>(s, place,
                   [&](auto access, int64_t at) { access.store(d_grad + at, scaled(access.load(grad + at), factor)); });
}

// ---------------------------------------------------------------------------------------------- double backward

// d_grad = w h, and <h, g> of every segment.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    grad_norm_penalty_double_backward_kernel(Samples s, Cotangents<accumulate_t<T>> c, const T* h, const T* grad,
                                             T* d_grad, accumulate_t<T>* sums) {
  using A = accumulate_t<T>;
  const Place place(s);
  const A factor = c.factor(s, place.row);
  A product = 0;
  for_each_pack<T>(s, place, [&](auto access, int64_t at) {
    const Pack<T> hp = access.load(h + at);
    product = dot(hp, access.load(grad + at), product);
    access.store(d_grad + at, scaled(hp, factor));
  });
  leave_sum(s, place, product, sums);
}

// One block: what else w depends on. w is linear in the cotangents of penalty and norms.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    grad_norm_penalty_double_backward_scalars_kernel(Samples s, Cotangents<accumulate_t<T>> c,
                                                     const accumulate_t<T>* sums, accumulate_t<T>* d_grad_penalty,
                                                     accumulate_t<T>* d_grad_norms, accumulate_t<T>* d_norms) {
  using A = accumulate_t<T>;
  const A share = c.share(s);
  A total = 0;
  for_each_row_sum(s, sums, [&](int64_t row, A product) {
    const A n = c.norms[row];
    total += product * penalty_factor<A>(c.kind, n, c.target, 1, 0);
    d_grad_norms[row] = product * penalty_factor<A>(c.kind, n, c.target, 0, 1);
    d_norms[row] = product * penalty_factor_slope<A>(c.kind, n, c.target, share, c.grad_norms[row]);
  });
  total = block_sum(total);
  if (threadIdx.x == 0) *d_grad_penalty = total / A(s.rows);
}

}  // namespace fastgan
