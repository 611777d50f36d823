// Spectral norm of a list of weights on the GPU: every kernel serves the whole list.
//
// One power iteration is  t = W v,  u = t / |t|,  x = W^T u,  v = x / |x|,  with a norm below eps replaced by eps.
// Since x = (W^T t) / |t|, a row of W that is still on chip after its share of t serves W^T t as well: an iteration
// reads W once, in `spectral_norm_multiply_kernel`. Each thread block does this for a block of rows and leaves
// its share of W^T t; `spectral_norm_add_kernel` adds the shares, `spectral_norm_normalize_kernel` divides W by sigma =
// u^T W v = |x| |x| / max(|x|, eps).
//
// Blocks exchange results between launches only: no atomics, no fences, and a fixed order of every sum.
#pragma once

#include "cuda/device/pack.h"
#include "cuda/device/sum.h"
#include "cuda/device/table.h"

namespace fastgan {

constexpr int kFewestLanes = 8;  // that share a row, however short

// ---------------------------------------------------------------------------------------------- blocks

// How a matrix is cut: into row blocks, a thread block for each, and a row block into rows, `lanes` threads for each.
struct RowBlocks {
  int64_t rows, cols;
  int rows_each;      // in a row block
  int first, blocks;  // this layer's row blocks
  short lanes;        // threads that share a row: a power of two from kFewestLanes to kThreads
  bool aligned;       // every row of every matrix, and v, start on 16 bytes and end on a whole pack

  __device__ __forceinline__ int64_t begin(int block) const { return int64_t(block) * rows_each; }
  __device__ __forceinline__ int64_t end(int block) const { return min(rows, begin(block) + rows_each); }
};

template <class T, bool aligned, class Body>
__device__ __forceinline__ void visit_packs(const RowBlocks& m, int block, const Body& body) {
  const int team = threadIdx.x / m.lanes, lane = threadIdx.x % m.lanes, teams = kThreads / m.lanes;
  for (int64_t row = m.begin(block) + team; row < m.end(block); row += teams) {
#pragma unroll(aligned ? 4 : 1)
    for (int64_t col = lane * pack_size<T>; col < m.cols; col += m.lanes * pack_size<T>) {
      body(Access<aligned>{m.cols - col}, row, col, row * m.cols + col);
    }
  }
}

// body(access, row, col, row * cols + col) for every pack of the row block that is this thread's.
template <class T, class Body>
__device__ __forceinline__ void for_each_pack(const RowBlocks& m, int block, const Body& body) {
  if (m.aligned) {
    visit_packs<T, true>(m, block, body);
  } else {
    visit_packs<T, false>(m, block, body);
  }
}

// Adds up `count` quantities over a row block: body(row, col, sums) adds a pack's share to sums[0..count).
template <int count, class T, class A, class Body>
__device__ __forceinline__ void sum_block(const RowBlocks& m, int block, A* to, Body body) {
  A sums[count] = {};
  for_each_pack<T>(m, block,
                   [&](auto access, int64_t row, int64_t col, int64_t at) { body(access, row, col, at, sums); });
#pragma unroll
  for (int k = 0; k < count; k++) {
    const A sum = block_sum(sums[k]);
    if (threadIdx.x == 0) to[int64_t(block) * count + k] = sum;
  }
}

// max(norm, eps) that keeps NaN
template <class A>
__device__ __forceinline__ A at_least(A norm, A eps) {
  return norm < eps ? eps : norm;
}

// ---------------------------------------------------------------------------------------------- forward

// Columns of W^T t that a block of spectral_norm_add_kernel adds up: 16 bytes for each lane of a warp.
template <class A>
inline constexpr int column_block_size = kWarp * pack_size<A>;

template <class T>
struct ForwardLayer : RowBlocks {
  using A = accumulate_t<T>;
  const T *weight, *u, *v;                // (rows, cols), (rows,), (cols,)
  T *normalized, *new_u, *new_v, *sigma;  // (rows, cols), (rows,), (cols,), ()
  A *t, *x;                               // (rows,), (width,)
  A* shares;                              // (blocks, width): W^T t of each row block
  A *row_block_sums, *column_block_sums;  // (blocks,): |t|^2, or u.(W v); (column_blocks,): |x|^2
  int first_column_block;                 // spectral_norm_add_kernel: this layer's first block
  int product_lanes;  // spectral_norm_multiply_kernel: threads that share a row; 0: a row does not fit

  // cols, rounded up to whole packs
  __host__ __device__ __forceinline__ int64_t width() const { return (cols + pack_size<T> - 1) & -pack_size<T>; }
  __host__ __device__ __forceinline__ int column_blocks() const {
    return (width() + column_block_size<A> - 1) / column_block_size<A>;
  }
};

// Shared memory of spectral_norm_multiply_kernel, in this order: v, the row block's W^T t as it grows, a tile of as
// many rows as are at work, and their products with v.
template <class T>
constexpr int64_t shared_bytes(int64_t width, int lanes) {
  using A = accumulate_t<T>;
  return 2 * width * sizeof(A) + kThreads / lanes * width * sizeof(T) + kThreads / kFewestLanes * sizeof(A);
}

// t = W v and the share of W^T t for the block's rows, each of which is kept in shared memory between its two uses.
// Returns this thread's share of |t|^2.
template <class T, bool aligned>
__device__ __forceinline__ accumulate_t<T> multiply_kept_rows(const ForwardLayer<T>& layer, int block,
                                                              bool first_iteration, accumulate_t<T> x_norm,
                                                              unsigned char* shared) {
  using A = accumulate_t<T>;
  constexpr int N = pack_size<T>;
  const int cols = layer.cols, width = layer.width();
  const int lanes = layer.product_lanes, teams = kThreads / lanes, neighbours = min(lanes, kWarp);
  const int team = threadIdx.x / lanes, lane = threadIdx.x % lanes;

  A* v = reinterpret_cast<A*>(shared);                   // (width,)
  A* share = v + width;                                  // (width,)
  T* tile = reinterpret_cast<T*>(share + width);         // (teams, width)
  A* dots = reinterpret_cast<A*>(tile + teams * width);  // (kThreads / neighbours,): W v, a few parts for each row

#pragma unroll 1
  for (int c = threadIdx.x; c < (GPU_PLANT(uninitialised_read) ? cols : width); c += kThreads) {
    v[c] = c >= cols ? A(0) : first_iteration ? A(layer.v[c]) : layer.x[c] / x_norm;
    share[c] = 0;
  }
  __syncthreads();

  const auto row_of_t = [&](int row) {
    const int parts = lanes / neighbours;
    A sum = 0;
#pragma unroll 1
    for (int k = 0; k < parts; k++) sum += dots[row * parts + k];
    return sum;
  };
  A squares = 0;
  for (int64_t row = layer.begin(block), end = layer.end(block); row < end; row += teams) {
    const int rows = min(int64_t(teams), end - row);
    A product = 0;
    if (team < rows) {
      const T* w = layer.weight + (row + team) * cols;
#pragma unroll(aligned ? 4 : 1)
      for (int c = lane * N; c < cols; c += lanes * N) {
        const Pack<T> pack = Access<aligned>{cols - c}.load(w + c);
        vector_at<N>(tile + team * width + c) = pack;
        product = dot(pack, vector_at<N>(v + c), product);
      }
    }
    product = lane_sum(product, neighbours);
    if (threadIdx.x % neighbours == 0) dots[threadIdx.x / neighbours] = product;
    __syncthreads();

    for (int c = threadIdx.x * N; c < cols; c += kThreads * N) {
      Vector<A, N> sum = vector_at<N>(share + c);
#pragma unroll 4
      for (int r = 0; r < rows; r++) {
        const A t = row_of_t(r);
        const Pack<T> pack = vector_at<N>(tile + r * width + c);
#pragma unroll
        for (int k = 0; k < N; k++) sum.at[k] += t * A(pack.at[k]);
      }
      vector_at<N>(share + c) = sum;
    }
    if (const int r = threadIdx.x; r < rows) {
      const A t = row_of_t(r);
      layer.t[row + r] = t;
      squares += t * t;
    }
    if (!GPU_PLANT(missing_barrier)) __syncthreads();  // the next rows take the place of these
  }

  A* to = layer.shares + block * layer.width();
  for (int c = threadIdx.x * N; c < cols; c += kThreads * N) vector_at<N>(to + c) = vector_at<N>(share + c);
  return squares;
}

// The same when a row is too long for shared memory: it is read a second time, out of the cache, and the share of
// W^T t grows in global memory. A thread keeps to its own columns there. The sums are those of 256 lanes for a kept
// row, term by term.
template <class T, bool aligned>
__device__ __forceinline__ accumulate_t<T> multiply_long_rows(const ForwardLayer<T>& layer, int block,
                                                              bool first_iteration, accumulate_t<T> x_norm) {
  using A = accumulate_t<T>;
  constexpr int N = pack_size<T>;
  const int64_t cols = layer.cols, begin = layer.begin(block);
  A* share = layer.shares + block * layer.width();
  A squares = 0;
  for (int64_t row = begin; row < layer.end(block); row++) {
    const T* w = layer.weight + row * cols;
    A product = 0;
#pragma unroll(aligned ? 2 : 1)
    for (int64_t c = threadIdx.x * N; c < cols; c += kThreads * N) {
      const Pack<T> pack = Access<aligned>{cols - c}.load(w + c);
      if (first_iteration) {
        product = dot(pack, Access<aligned>{cols - c}.load(layer.v + c), product);
      } else {
        Vector<A, N> v = vector_at<N>(layer.x + c);
#pragma unroll
        for (int k = 0; k < N; k++) v.at[k] /= x_norm;
        product = dot(pack, v, product);
      }
    }
    const A t = block_sum(product);
#pragma unroll(aligned ? 2 : 1)
    for (int64_t c = threadIdx.x * N; c < cols; c += kThreads * N) {
      const Pack<T> pack = Access<aligned>{cols - c}.load(w + c);
      Vector<A, N> sum = {};
      if (row > begin) sum = vector_at<N>(share + c);
#pragma unroll
      for (int k = 0; k < N; k++) sum.at[k] += t * A(pack.at[k]);
      vector_at<N>(share + c) = sum;
    }
    if (threadIdx.x == 0) {
      layer.t[row] = t;
      squares += t * t;
    }
  }
  return squares;
}

// A thread block per row block: t, |t|^2 and W^T t of its rows. v is the caller's in the first iteration, x / |x| after
// it.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    spectral_norm_multiply_kernel(const __grid_constant__ Table<ForwardLayer<T>> layers, accumulate_t<T> eps,
                                  bool first_iteration) {
  using A = accumulate_t<T>;
  GPU_DYNAMIC_SHARED(shared);
  const ForwardLayer<T> layer = layers.owner(blockIdx.x, &ForwardLayer<T>::first);
  const int block = blockIdx.x - layer.first;
  const A x_norm = first_iteration ? A(1) : at_least(sqrt(sum_of(layer.column_block_sums, layer.column_blocks())), eps);
  const auto multiply = [&](auto aligned) {
    return layer.product_lanes ? multiply_kept_rows<T, aligned>(layer, block, first_iteration, x_norm, shared)
                               : multiply_long_rows<T, aligned>(layer, block, first_iteration, x_norm);
  };
  const A squares = layer.aligned ? multiply(std::true_type()) : multiply(std::false_type());
  const A sum = block_sum(squares);
  if (threadIdx.x == 0) layer.row_block_sums[block] = sum;
}

// A thread block per column block: x = sum of the row blocks' W^T t, over |t|; and |x|^2 of the column block.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    spectral_norm_add_kernel(const __grid_constant__ Table<ForwardLayer<T>> layers, accumulate_t<T> eps) {
  using A = accumulate_t<T>;
  constexpr int N = pack_size<A>;
  GPU_SHARED(A, sums, kWarps * column_block_size<A>);
  const ForwardLayer<T> layer = layers.owner(blockIdx.x, &ForwardLayer<T>::first_column_block);
  const int block = blockIdx.x - layer.first_column_block, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t begin = int64_t(block) * column_block_size<A>, col = begin + lane * N;

  Vector<A, N> sum = {};
  if (col < layer.width()) {
#pragma unroll 2
    for (int block = warp; block < layer.blocks; block += kWarps) {
      const Vector<A, N> share = vector_at<N>(layer.shares + block * layer.width() + col);
#pragma unroll
      for (int k = 0; k < N; k++) sum.at[k] += share.at[k];
    }
  }
  vector_at<N>(sums + warp * column_block_size<A> + lane * N) = sum;
  const A t_norm = at_least(sqrt(sum_of(layer.row_block_sums, layer.blocks)), eps);  // its barriers order `sums` too

  A square = 0;
  const int64_t c = begin + threadIdx.x;
  if (threadIdx.x < column_block_size<A> && c < layer.width()) {
    A x = 0;
    for (int w = 0; w < kWarps; w++) x += sums[w * column_block_size<A> + threadIdx.x];
    x = c < layer.cols ? x / t_norm : A(0);
    layer.x[c] = x;
    square = x * x;
  }
  square = block_sum(square);
  if (threadIdx.x == 0) layer.column_block_sums[block] = square;
}

// u.(W v) of every row block, for a forward that does not update u and v.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    spectral_norm_project_kernel(const __grid_constant__ Table<ForwardLayer<T>> layers) {
  using A = accumulate_t<T>;
  const ForwardLayer<T> layer = layers.owner(blockIdx.x, &ForwardLayer<T>::first);
  const RowBlocks& m = layer;
  const int block = blockIdx.x - m.first;
  sum_block<1, T>(m, block, layer.row_block_sums, [&](auto access, int64_t row, int64_t col, int64_t at, A* sums) {
    const Pack<T> w = access.load(layer.weight + at);
    const Pack<T> v = access.load(layer.v + col);
    sums[0] += A(layer.u[row]) * dot(w, v, A(0));
  });
}

// W / sigma, and the vectors: u = t / |t| and v = x / |x|, or the old ones again.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    spectral_norm_normalize_kernel(const __grid_constant__ Table<ForwardLayer<T>> layers, accumulate_t<T> eps,
                                   bool update) {
  using A = accumulate_t<T>;
  const int index = gridDim.x - 1 - blockIdx.x;  // last rows first: they were read last, and may still be in the cache
  const ForwardLayer<T> layer = layers.owner(index, &ForwardLayer<T>::first);
  const RowBlocks& m = layer;
  const int block = index - m.first;

  const A sum_of_blocks = sum_of(layer.row_block_sums, m.blocks);
  const A x_norm = update ? sqrt(sum_of(layer.column_block_sums, layer.column_blocks())) : A(1);
  const A t_divisor = at_least(sqrt(sum_of_blocks), eps), x_divisor = at_least(x_norm, eps);
  const A sigma = update ? x_norm * (x_norm / x_divisor) : sum_of_blocks, inverse = 1 / sigma;

#pragma unroll 1
  for (int64_t r = m.begin(block) + threadIdx.x; r < m.end(block); r += kThreads) {
    layer.new_u[r] = update ? T(layer.t[r] / t_divisor) : layer.u[r];
  }
#pragma unroll 1
  for (int64_t c = int64_t(block) * kThreads + threadIdx.x; c < m.cols; c += int64_t(m.blocks) * kThreads) {
    layer.new_v[c] = update ? T(layer.x[c] / x_divisor) : layer.v[c];
  }
  if (block == 0 && threadIdx.x == 0) *layer.sigma = T(sigma);

  for_each_pack<T>(m, block, [&](auto access, int64_t row, int64_t col, int64_t at) {
    Pack<T> w = access.load(layer.weight + at);
#pragma unroll
    for (int k = 0; k < pack_size<T>; k++) w.at[k] = T(A(w.at[k]) * inverse);
    access.store(layer.normalized + at, w);
  });
}

// ---------------------------------------------------------------------------------------------- backward

// dW = G / s + (g - <G, W> / s^2) u v^T
template <class T>
struct BackwardLayer : RowBlocks {
  const T *grad, *grad_sigma, *weight, *sigma, *u, *v;  // G (rows, cols), g (), W (rows, cols), s (), (rows,), (cols,)
  T* grad_weight;                                       // (rows, cols)
  accumulate_t<T>* sums;                                // (blocks,): <G, W>
};

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    spectral_norm_backward_sums_kernel(const __grid_constant__ Table<BackwardLayer<T>> layers) {
  using A = accumulate_t<T>;
  const BackwardLayer<T> layer = layers.owner(blockIdx.x, &BackwardLayer<T>::first);
  const RowBlocks& m = layer;
  sum_block<1, T>(m, blockIdx.x - m.first, layer.sums, [&](auto access, int64_t row, int64_t col, int64_t at, A* sums) {
    const Pack<T> g = access.load(layer.grad + at);
    const Pack<T> w = access.load(layer.weight + at);
    sums[0] = dot(g, w, sums[0]);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    spectral_norm_backward_weights_kernel(const __grid_constant__ Table<BackwardLayer<T>> layers) {
  using A = accumulate_t<T>;
  const int index = gridDim.x - 1 - blockIdx.x;  // as in spectral_norm_normalize_kernel
  const BackwardLayer<T> layer = layers.owner(index, &BackwardLayer<T>::first);
  const RowBlocks& m = layer;
  const A inverse = 1 / A(*layer.sigma);
  const A along_uv = A(*layer.grad_sigma) - sum_of(layer.sums, m.blocks) * inverse * inverse;

  for_each_pack<T>(m, index - m.first, [&](auto access, int64_t row, int64_t col, int64_t at) {
    const A along_v = along_uv * A(layer.u[row]);
    const Pack<T> v = access.load(layer.v + col);
    Pack<T> g = access.load(layer.grad + at);
#pragma unroll
    for (int k = 0; k < pack_size<T>; k++) g.at[k] = T(A(g.at[k]) * inverse + along_v * A(v.at[k]));
    access.store(layer.grad_weight + at, g);
  });
}

// ---------------------------------------------------------------------------------------------- double backward

// With c = u^T H v:  dG = H / s - (c / s^2) W,  dg = c,  dW = -(c / s^2) G,  ds = 2 <G, W> c / s^3 - <H, G> / s^2
template <class T>
struct DoubleBackwardLayer : RowBlocks {
  const T *h, *grad, *weight, *sigma, *u, *v;     // H (rows, cols), the others as in backward
  T *d_grad, *d_grad_sigma, *d_weight, *d_sigma;  // (rows, cols), (), (rows, cols), ()
  accumulate_t<T>* sums;                          // (blocks, 3): c, <G, W>, <H, G>
};

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    spectral_norm_double_backward_sums_kernel(const __grid_constant__ Table<DoubleBackwardLayer<T>> layers) {
  using A = accumulate_t<T>;
  const DoubleBackwardLayer<T> layer = layers.owner(blockIdx.x, &DoubleBackwardLayer<T>::first);
  const RowBlocks& m = layer;
  sum_block<3, T>(m, blockIdx.x - m.first, layer.sums, [&](auto access, int64_t row, int64_t col, int64_t at, A* sums) {
    const Pack<T> h = access.load(layer.h + at);
    const Pack<T> g = access.load(layer.grad + at);
    const Pack<T> w = access.load(layer.weight + at);
    const Pack<T> v = access.load(layer.v + col);
    sums[0] += A(layer.u[row]) * dot(h, v, A(0));
    sums[1] = dot(g, w, sums[1]);
    sums[2] = dot(h, g, sums[2]);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    spectral_norm_double_backward_outputs_kernel(const __grid_constant__ Table<DoubleBackwardLayer<T>> layers) {
  using A = accumulate_t<T>;
  const int index = gridDim.x - 1 - blockIdx.x;  // as in spectral_norm_normalize_kernel
  const DoubleBackwardLayer<T> layer = layers.owner(index, &DoubleBackwardLayer<T>::first);
  const RowBlocks& m = layer;
  const int block = index - m.first;
  const A inverse = 1 / A(*layer.sigma), c = sum_of(layer.sums, m.blocks, 3), c_s2 = c * inverse * inverse;
  const A gw = sum_of(layer.sums + 1, m.blocks, 3), hg = sum_of(layer.sums + 2, m.blocks, 3);
  if (block == 0 && threadIdx.x == 0) {
    *layer.d_grad_sigma = T(c);
    *layer.d_sigma = T(2 * gw * c_s2 * inverse - hg * inverse * inverse);
  }

  for_each_pack<T>(m, block, [&](auto access, int64_t row, int64_t col, int64_t at) {
    const Pack<T> h = access.load(layer.h + at);
    const Pack<T> g = access.load(layer.grad + at);
    const Pack<T> w = access.load(layer.weight + at);
    Pack<T> dg, dw;
#pragma unroll
    for (int k = 0; k < pack_size<T>; k++) {
      dg.at[k] = T(A(h.at[k]) * inverse - c_s2 * A(w.at[k]));
      dw.at[k] = T(-c_s2 * A(g.at[k]));
    }
    access.store(layer.d_grad + at, dg);
    access.store(layer.d_weight + at, dw);
  });
}

}  // namespace fastgan
