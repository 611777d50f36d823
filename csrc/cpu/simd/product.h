// Register-blocked products of small matrices: C += A B. Included by kernel headers after vectors.h, inside its
// namespace: no guard, no includes. A is read element by element (row by row, or transposed), B and C row by row in
// vectors.

#undef FASTGAN_NOINLINE
#define FASTGAN_NOINLINE __attribute__((noinline))  // a loop nest of its own: more registers for it, less code

constexpr int kTileRows = 6;  // 6 x 2 accumulators, 2 vectors of B and a broadcast of A: 15 of 16 registers
constexpr int kTileVectors = 2;
template <class A>
constexpr int kTileColumns = kTileVectors * kLanes<A>;  // of a register tile, and of a packed tile that it reads

constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// One of A's two strides is 1: of its steps (A row by row) or of its rows (A transposed). Known at compile time, it
// becomes part of the address, and the loop is left with loads and multiplications.
enum class Layout { rows, transposed };

// Keeps the compiler from seeing through a pointer. Without it, GCC turns the addresses below into a dozen loop
// invariants, more than there are registers, and the loop runs at two thirds of its speed.
template <class P>
FASTGAN_INLINE void opaque(P& pointer) {
  __asm__("" : "+r"(pointer));
}

// c (R rows, C vectors) += A (R, length) B (length, C vectors).
template <class A, Layout F, int R, int C>
FASTGAN_INLINE void multiply_add(Vec<A> (&c)[R][C], const A* a, int64_t a_stride, const A* b, int64_t b_step,
                                 int64_t length) {
  constexpr int P = (R + 1) / 2;
  const A* pair[P];  // rows 2 i and 2 i + 1 of A at pair[i] and pair[i] + a_stride
  if constexpr (F == Layout::rows) {
#pragma GCC unroll 4
    for (int i = 0; i < P; i++) {
      pair[i] = a + 2 * i * a_stride;
      opaque(pair[i]);
    }
  }
  const auto step = [&](int u) __attribute__((always_inline)) {
    Vec<A> bk[C];
#pragma GCC unroll 4
    for (int j = 0; j < C; j++) bk[j] = load(b + j * kLanes<A>);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const A aik = F == Layout::rows ? pair[i / 2][i % 2 * a_stride + u] : a[i];
#pragma GCC unroll 4
      for (int j = 0; j < C; j++) c[i][j] += bk[j] * aik;
    }
    b += b_step;
    opaque(b);
    if constexpr (F == Layout::transposed) {
      a += a_stride;
      opaque(a);
    }
  };
  int64_t k = 0;
  for (; k + 4 <= length; k += 4) {
    step(0);
    step(1);
    step(2);
    step(3);
    if constexpr (F == Layout::rows) {
#pragma GCC unroll 4
      for (int i = 0; i < P; i++) pair[i] += 4;
    }
  }
  for (; k < length; k++) {
    step(0);
    if constexpr (F == Layout::rows) {
#pragma GCC unroll 4
      for (int i = 0; i < P; i++) pair[i] += 1;
    }
  }
}

// One summand of a product: row i of A, or step k of a transposed A, at a + (i | k) * a_stride; row k of B at b + k *
// b_step.
template <class A>
struct Term {
  const A* a;
  int64_t a_stride;
  const A* b;
  int64_t b_step, length;
};

template <class A, Layout F, int R, int C>
inline void add_products_tile(A* c, int64_t c_row, int64_t column, int64_t row, const Term<A>* terms, int count) {
  Vec<A> tile[R][C];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 4
    for (int j = 0; j < C; j++) tile[i][j] = load(c + i * c_row + j * kLanes<A>);
  for (int t = 0; t < count; t++) {
    const Term<A>& term = terms[t];
    multiply_add<A, F, R, C>(tile, term.a + row * (F == Layout::rows ? term.a_stride : 1), term.a_stride,
                             term.b + column, term.b_step, term.length);
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 4
    for (int j = 0; j < C; j++) store(c + i * c_row + j * kLanes<A>, tile[i][j]);
}

// All columns of R rows.
template <class A, Layout F, int R>
inline void add_products_rows(A* c, int64_t c_row, int64_t cols, int64_t row, const Term<A>* terms, int count) {
  int64_t column = 0;
  c += row * c_row;
  for (; column + kTileColumns<A> <= cols; column += kTileColumns<A>)
    add_products_tile<A, F, R, kTileVectors>(c + column, c_row, column, row, terms, count);
  if (column < cols) add_products_tile<A, F, R, 1>(c + column, c_row, column, row, terms, count);
}

// C (rows, cols) += sum of the terms; cols is a multiple of kLanes<A>.
template <Layout F, class A>
void add_products(A* c, int64_t c_row, int64_t rows, int64_t cols, const Term<A>* terms, int count) {
  int64_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows)
    add_products_rows<A, F, kTileRows>(c, c_row, cols, row, terms, count);
  switch (rows - row) {
    case 5:
      return add_products_rows<A, F, 5>(c, c_row, cols, row, terms, count);
    case 4:
      return add_products_rows<A, F, 4>(c, c_row, cols, row, terms, count);
    case 3:
      return add_products_rows<A, F, 3>(c, c_row, cols, row, terms, count);
    case 2:
      return add_products_rows<A, F, 2>(c, c_row, cols, row, terms, count);
    case 1:
      return add_products_rows<A, F, 1>(c, c_row, cols, row, terms, count);
  }
}
