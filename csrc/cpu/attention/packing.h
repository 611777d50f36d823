// What the attention kernels share: scratch memory, packing of operands, blocks of queries and of keys, tiles of
// scores.

#include "cpu/simd/elementary.h"
#include "cpu/simd/product.h"

constexpr double kLog2e = 1.4426950408889634074, kLn2 = 0.69314718055994530942;

// --- memory: scratch is one array per thread, laid out by the same code that uses it

template <class A>
struct Arena {
  A* base;
  int64_t used = 0;
  A* take(int64_t n) {
    A* p = base ? base + used : nullptr;
    used += round_up(n, 64 / sizeof(A)) + 64 / sizeof(A);  // a cache line apart, so that equal rows do not share a set
    return p;
  }
};

// A matrix in accumulate type whose rows can be read in whole vectors.
template <class A>
struct Rows {
  const A* data;
  int64_t step;
};

template <class T>
const T* head_of(const AttentionOperand& t, const AttentionProblem& p, int64_t head) {
  return static_cast<const T*>(t.data) + (head / p.heads) * t.batch + (head % p.heads) * t.head;
}

// dst (rows, step) = src (rows, cols), zeros up to `padded` columns.
template <class T, class A>
void pack_rows(const T* src, int64_t row, int64_t column, int64_t rows, int64_t cols, A* dst, int64_t step,
               int64_t padded) {
  constexpr int L = kLanes<A>;
  if (row == 1 && column != 1) {  // channels first: read along the rows
    for (int64_t c = 0; c < padded; c++) {
      for (int64_t i = 0; i < rows; i++) dst[i * step + c] = c < cols ? load_one(src + c * column + i) : A(0);
    }
    return;
  }
  for (int64_t i = 0; i < rows; i++) {
    const T* s = src + i * row;
    A* d = dst + i * step;
    int64_t c = 0;
    if (column == 1) {
      for (; c + L <= cols; c += L) store(d + c, load(s + c));
    }
    for (; c < cols; c++) d[c] = load_one(s + c * column);
    for (; c < padded; c++) d[c] = 0;
  }
}

// Alternating elements of a and b, from element `first` of both on.
template <int first, class A, int... I>
FASTGAN_INLINE Vec<A> alternate(Vec<A> a, Vec<A> b, std::integer_sequence<int, I...>) {
  return Vec<A>{(I % 2 ? b : a)[first + I / 2]...};
}

// Transposes a square of elements in registers: log2(L) perfect shuffles of its L rows.
template <class A>
FASTGAN_INLINE void transpose(Vec<A> (&rows)[kLanes<A>]) {
  constexpr int L = kLanes<A>;
  constexpr auto indices = std::make_integer_sequence<int, L>();
#pragma GCC unroll 4
  for (int n = 1; n < L; n *= 2) {
    Vec<A> shuffled[L];
#pragma GCC unroll 8
    for (int i = 0; i < L / 2; i++) {
      shuffled[2 * i] = alternate<0, A>(rows[i], rows[i + L / 2], indices);
      shuffled[2 * i + 1] = alternate<L / 2, A>(rows[i], rows[i + L / 2], indices);
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) rows[i] = shuffled[i];
  }
}

// The transposed matrix in packed tiles of kTileColumns keys: tile t holds, for every column c of src, kTileColumns
// keys side by side. A tile takes `tile_size` elements, the first one at dst. Absent keys and columns up to `padded`
// are zero.
template <class T, class A>
void pack_tiles(const T* src, int64_t row, int64_t column, int64_t keys, int64_t cols, A* dst, int64_t tile_size,
                int64_t padded) {
  constexpr int L = kLanes<A>, W = kTileColumns<A>;
  for (int64_t j0 = 0; j0 < keys; j0 += W, dst += tile_size) {
    const int64_t count = std::min<int64_t>(W, keys - j0);
    const T* s = src + j0 * row;
    int64_t c = 0;
    if (row == 1 && count == W) {
      for (; c < cols; c++) {
        for (int l = 0; l < W; l += L) store(dst + c * W + l, load(s + c * column + l));
      }
    } else if (column == 1) {
      for (; c + L <= cols; c += L) {
        for (int64_t j = 0; j < W; j += L) {
          Vec<A> square[L];
          for (int l = 0; l < L; l++) square[l] = j + l < count ? load(s + (j + l) * row + c) : Vec<A>{};
          transpose<A>(square);
          for (int l = 0; l < L; l++) store(dst + (c + l) * W + j, square[l]);
        }
      }
    }
    for (; c < cols; c++) {
      for (int64_t j = 0; j < W; j++) dst[c * W + j] = j < count ? load_one(s + j * row + c * column) : A(0);
    }
    std::fill(dst + cols * W, dst + padded * W, A(0));
  }
}

// Whether an operand's rows cannot be read in whole vectors where they are.
template <class T, class A>
bool needs_buffer(const AttentionOperand& t, int64_t cols, int64_t padded) {
  return !(std::is_same_v<T, A> && t.column == 1 && cols == padded);
}

// `rows` of an operand's rows in one head, from row `first` on: in place, or copied to `buffer` (rows, padded).
template <class T, class A>
Rows<A> rows_of(const AttentionOperand& t, const AttentionProblem& p, int64_t head, int64_t first, int64_t rows,
                int64_t cols, int64_t padded, A* buffer) {
  const T* src = head_of<T>(t, p, head) + first * t.row;
  if constexpr (std::is_same_v<T, A>) {
    if (!needs_buffer<T, A>(t, cols, padded)) return {src, t.row};
  }
  pack_rows(src, t.row, t.column, rows, cols, buffer, padded, padded);
  return {buffer, padded};
}

template <class T, class A>
void write_rows(const A* src, int64_t step, int64_t rows, int64_t cols, A factor, T* dst) {
  constexpr int L = kLanes<A>;
  for (int64_t i = 0; i < rows; i++) {
    const A* s = src + i * step;
    T* d = dst + i * cols;
    int64_t c = 0;
    for (; c + L <= cols; c += L) store(d + c, load(s + c) * factor);
    if (c < cols) store_partial(d + c, load(s + c) * factor, int(cols - c));
  }
}

// What every query block of a head reads of the keys: packed tiles of K (and Y) and of V (and Z), rows of those, the
// bias.
template <class T, class A>
struct KeySide {
  int64_t head = -1;
  int64_t width, v_width, keys;  // padded D, Dv, M
  int64_t qk_tile, v_tile;       // elements of one packed tile; Y's part follows K's
  A *k_tiles, *v_tiles = nullptr, *z_tiles = nullptr, *bias, *x_bias = nullptr;
  A *k_buffer = nullptr, *v_buffer = nullptr, *y_buffer = nullptr, *z_buffer = nullptr;
  Rows<A> k{}, v{}, y{}, z{};

  KeySide(Arena<A>& arena, const AttentionProblem& p, const AttentionInputs& in, bool backward)
      : width(round_up(p.qk_width, kLanes<A>)),
        v_width(round_up(p.v_width, kLanes<A>)),
        keys(round_up(p.keys, kTileColumns<A>)) {
    qk_tile = (in.y ? 2 : 1) * width * kTileColumns<A>;
    v_tile = v_width * kTileColumns<A>;
    const int64_t tiles = keys / kTileColumns<A>;
    k_tiles = arena.take(tiles * qk_tile);
    bias = arena.take(keys);
    k_buffer = needs_buffer<T, A>(in.k, p.qk_width, width) ? arena.take(keys * width) : nullptr;
    v_buffer = needs_buffer<T, A>(in.v, p.v_width, v_width) ? arena.take(keys * v_width) : nullptr;
    if (backward) v_tiles = arena.take(tiles * v_tile);
    if (in.y && needs_buffer<T, A>(in.y, p.qk_width, width)) y_buffer = arena.take(keys * width);
    if (in.z) {
      z_tiles = arena.take(tiles * v_tile);
      if (needs_buffer<T, A>(in.z, p.v_width, v_width)) z_buffer = arena.take(keys * v_width);
    }
    if (in.x_bias) x_bias = arena.take(keys);
  }

  void load_head(const AttentionProblem& p, const AttentionInputs& in, int64_t h) {
    if (h == head) return;
    head = h;
    pack(p, in.k, p.qk_width, k_tiles, qk_tile, width);
    k = rows_of<T>(in.k, p, h, 0, p.keys, p.qk_width, width, k_buffer);
    v = rows_of<T>(in.v, p, h, 0, p.keys, p.v_width, v_width, v_buffer);
    if (v_tiles) pack(p, in.v, p.v_width, v_tiles, v_tile, v_width);
    if (in.y) {
      pack(p, in.y, p.qk_width, k_tiles + width * kTileColumns<A>, qk_tile, width);
      y = rows_of<T>(in.y, p, h, 0, p.keys, p.qk_width, width, y_buffer);
    }
    if (in.z) {
      pack(p, in.z, p.v_width, z_tiles, v_tile, v_width);
      z = rows_of<T>(in.z, p, h, 0, p.keys, p.v_width, v_width, z_buffer);
    }
    read_bias(p, in.key_bias, bias, A(kLog2e));
    if (x_bias) read_bias(p, in.x_bias, x_bias, A(1));
  }

  void pack(const AttentionProblem& p, const AttentionOperand& t, int64_t cols, A* dst, int64_t size, int64_t padded) {
    pack_tiles(head_of<T>(t, p, head), t.row, t.column, p.keys, cols, dst, size, padded);
  }

  void read_bias(const AttentionProblem& p, const AttentionOperand& t, A* dst, A factor) {
    std::fill(dst, dst + keys, A(0));
    if (!t) return;
    const A* src = head_of<A>(t, p, head);
    for (int64_t j = 0; j < p.keys; j++) dst[j] = src[j * t.row] * factor;
  }
};

// --- one tile: R rows times one packed tile

template <class A, int R>
struct Tile {
  Vec<A> v[R][kTileVectors];

  // rows (R, length) times packed (length, kTileColumns)
  FASTGAN_INLINE void product(const A* rows, int64_t step, const A* packed, int64_t length) {
#pragma GCC unroll 8
    for (int i = 0; i < R; i++)
#pragma GCC unroll 4
      for (int j = 0; j < kTileVectors; j++) v[i][j] = Vec<A>{};
    multiply_add<A, Layout::rows, R, kTileVectors>(v, rows, step, packed, kTileColumns<A>, length);
  }
};

// Calls step.template rows<R>(first_row) over `rows` rows in tiles of kTileRows and a rest.
template <class Step>
FASTGAN_INLINE void in_row_tiles(int64_t rows, const Step& step) {
  int64_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) step.template rows<kTileRows>(row);
  switch (rows - row) {
    case 5:
      return step.template rows<5>(row);
    case 4:
      return step.template rows<4>(row);
    case 3:
      return step.template rows<3>(row);
    case 2:
      return step.template rows<2>(row);
    case 1:
      return step.template rows<1>(row);
  }
}

// How many keys of a block that starts at j0 query i sees.
FASTGAN_INLINE int64_t visible(const AttentionProblem& p, int64_t i, int64_t j0) {
  return (p.causal ? std::min(p.keys, i + 1) : p.keys) - j0;
}

// Neighbouring query rows; `keys`: how many keys the last of them sees.
struct QueryBlock {
  int64_t first, rows, keys;
  QueryBlock(const AttentionProblem& p, int64_t index)
      : first(index * p.block_queries),
        rows(std::min(p.block_queries, p.queries - first)),
        keys(p.causal ? std::min(p.keys, first + rows) : p.keys) {}
};

// The keys from `first` on that a query block works with at a time.
struct KeyBlock {
  int64_t first, width, tiles;
  KeyBlock(const QueryBlock& queries, int64_t first, int64_t tile_columns)
      : first(first),
        width(std::min(kBlockKeys, queries.keys - first)),
        tiles((width + tile_columns - 1) / tile_columns) {}
};

inline int64_t query_block_count(const AttentionProblem& p) {
  return (p.queries + p.block_queries - 1) / p.block_queries;
}
