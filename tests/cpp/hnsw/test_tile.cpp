// The tile of every set of kernels that runs here against sums in double. Rows end where reading on would
// fault.
#include <cmath>
#include <limits>
#include <new>

#include "check.h"
#include "kernel_rows.h"

using namespace embedcore::hnsw;

namespace {

// A panel for a tile, aligned as it asks.
class Panel {
 public:
  explicit Panel(std::size_t floats)
      : at_(static_cast<float*>(::operator new(floats * sizeof(float), std::align_val_t{64}))) {}
  Panel(const Panel&) = delete;
  Panel& operator=(const Panel&) = delete;
  ~Panel() { ::operator delete(at_, std::align_val_t{64}); }
  [[nodiscard]] float* data() const { return at_; }

 private:
  float* at_;
};

} // namespace

TEST(tile_products_agree_with_double_for_all_counts_and_lengths) {
  std::mt19937 random(3);
  for (const Kernels* kernels : running()) {
    const std::size_t width = kernels->tile.queries;
    CHECK(width != 0 && width * sizeof(float) % 16 == 0);
    for (const std::size_t n : {1, 2, 7, 384, 385, 1000, 2500}) {
      const Panel panel(n * width);
      std::normal_distribution<float> normal;
      for (std::size_t i = 0; i < n * width; ++i) panel.data()[i] = normal(random);
      for (std::size_t count = 1; count <= 27; ++count) {
        const Rows rows(Form::f32, n, count);
        rows.fill(random);
        const std::size_t stride = rows.stride / sizeof(float);
        const auto* first = reinterpret_cast<const float*>(rows.row(0));
        constexpr float untouched = -7777.0f;
        std::vector<float> out((count + 1) * width, untouched);
        kernels->tile.products(panel.data(), n, first, stride, count, out.data());
        for (std::size_t r = 0; r < count; ++r) {
          for (std::size_t j = 0; j < width; ++j) {
            double sum = 0;
            double magnitude = 0;
            for (std::size_t i = 0; i < n; ++i) {
              const double product = static_cast<double>(panel.data()[i * width + j]) *
                                     static_cast<double>(first[r * stride + i]);
              sum += product;
              magnitude += std::abs(product);
            }
            CHECK(std::abs(out[r * width + j] - sum) <= 2e-6 * magnitude);
          }
        }
        for (std::size_t j = 0; j < width; ++j) CHECK_EQ(out[count * width + j], untouched);
      }
    }
  }
}

TEST(tile_tells_whether_a_product_is_above) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const Kernels* kernels : running()) {
    const std::size_t width = kernels->tile.queries;
    for (std::size_t count = 1; count <= 13; ++count) {
      std::vector<float> products(count * width, 1.0f);
      std::vector<float> scale(count, 2.0f);
      std::vector<float> shift(count, -1.0f);
      std::vector<float> cuts(width, 1.5f); // 1 * 2 - 1 is below
      const auto above = [&] {
        return kernels->tile.above(products.data(), scale.data(), shift.data(), cuts.data(), count);
      };
      CHECK(!above());
      for (std::size_t i = 0; i < products.size(); ++i) {
        for (const float high : {1.25f, inf, nan}) { // 1.25: just at the cut
          products[i] = high;
          CHECK(above());
        }
        products[i] = -inf;
        CHECK(!above());
        products[i] = 1.0f;
      }
      for (std::size_t j = 0; j < width; ++j) {
        cuts[j] = -inf;
        CHECK(above());
        cuts[j] = inf;
        CHECK(!above());
        cuts[j] = 1.5f;
      }
      shift[count - 1] = 0.0f;
      CHECK(above());
    }
  }
}
