// Conversions against a scalar definition for every half and bfloat16, and the power iteration's product against loops.
// Included by each_isa.h, once per instruction set.
#include "cpu/spectral_norm/kernels.h"

void check(const char* isa) {
  for (int bits = 0; bits < 65536; bits++) {
    const Half h{uint16_t(bits)};
    const BFloat16 b{uint16_t(bits)};
    const float hf = load_one(&h), bf = load_one(&b);
    expect(same(hf, half_value(bits)), isa, "widen half", bits);
    expect(same(bf, bfloat16_value(bits)), isa, "widen bfloat16", bits);
    Half h2;
    BFloat16 b2;
    store_one(&h2, hf);
    store_one(&b2, bf);
    expect(same(half_value(h2.bits), half_value(bits)), isa, "half there and back", bits);
    expect(same(bfloat16_value(b2.bits), bfloat16_value(bits)), isa, "bfloat16 there and back", bits);
    if (bits < 0x7bff) { /* a tie between neighbours goes to the even one; a nudge goes to the nearer one */
      const double low = half_value(bits), high = half_value(bits + 1), middle = (low + high) / 2;
      store_one(&h2, float(middle));
      expect(h2.bits == bits + (bits & 1), isa, "half tie to even", bits);
      store_one(&h2, std::nextafter(float(middle), 1e9f));
      expect(h2.bits == bits + 1, isa, "half rounds up", bits);
    }
  }
  std::mt19937 random(0);
  std::normal_distribution<double> normal;
  for (int64_t rows : {1, 2, 3, 4, 5, 9}) {
    for (int64_t cols : {1, 2, 3, 7, 8, 15, 16, 17, 33, 100}) {
      std::vector<double> W(rows * cols), v(cols), t(rows), x(cols, 7.0);
      for (double& w : W) w = normal(random);
      for (double& w : v) w = normal(random);
      power_iteration_rows<double>(W.data(), rows, cols, v.data(), t.data(), x.data());
      std::vector<double> t0(rows, 0.0), x0(cols, 0.0);
      for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) t0[r] += W[r * cols + c] * v[c];
        for (int64_t c = 0; c < cols; c++) x0[c] += W[r * cols + c] * t0[r];
      }
      for (int64_t r = 0; r < rows; r++) expect(std::abs(t[r] - t0[r]) < 1e-10, isa, "W v", t[r] - t0[r]);
      for (int64_t c = 0; c < cols; c++) expect(std::abs(x[c] - x0[c]) < 1e-10, isa, "W^T t", x[c] - x0[c]);
    }
  }
  std::printf("checked %s\n", isa);
}
