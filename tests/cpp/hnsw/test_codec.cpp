// Codes and distances on them, against double. Codes are read through between(), whose query holds their
// integers; so nothing here knows how bits are laid out.
#include "hnsw/codec.h"

#include "hnsw/kernels.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::hnsw;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dims[] = {1, 63, 64, 65, 127, 128, 129, 384};
constexpr Codes both[] = {Codes::int8, Codes::int4};

Config config_of(std::uint32_t dim, Codes codes, Metric metric) {
  Config config;
  config.dim = dim;
  config.metric = metric;
  config.codes = codes;
  return config;
}

// Normal values about a mean of their own in each dimension; of unit length under cosine.
std::vector<float> sample_of(std::mt19937& random, const Config& config, std::size_t n) {
  const Vector centre = random_vector(random, config.dim);
  auto rows = random_rows(random, n, config.dim);
  for (std::size_t i = 0; i < n; ++i) {
    float* row = &rows[i * config.dim];
    for (std::size_t j = 0; j < config.dim; ++j) row[j] += centre[j];
    const float scale = config.metric == Metric::cosine ? inverse_norm(row, config.dim) : 1.0f;
    for (std::size_t j = 0; j < config.dim; ++j) row[j] *= scale;
  }
  return rows;
}

// A codec and codes of some vectors.
struct Coded {
  Coded(const Config& c, const Kernels& k, const std::vector<float>& v, CodecValues values)
      : config(c), kernels(k), vectors(v), codec(c, k, std::move(values)), stride(Codec::bytes(c)) {
    const std::size_t n = vectors.size() / config.dim;
    codes.resize(n * stride + 64);
    base = codes.data() + (64 - reinterpret_cast<std::uintptr_t>(codes.data()) % 64) % 64;
    for (std::size_t i = 0; i < n; ++i) cut += codec.encode(row(i), base + i * stride);
  }
  Coded(const Config& c, const Kernels& k, const std::vector<float>& v)
      : Coded(c, k, v, Codec::train(c, v, 1)) {}

  [[nodiscard]] const float* row(std::size_t i) const { return &vectors[i * config.dim]; }
  [[nodiscard]] int most() const { return config.codes == Codes::int4 ? 120 : codec.values().most; }
  // The integers v of code i; value = mean + step * v.
  [[nodiscard]] std::vector<int> integers(std::size_t i) const {
    std::vector<std::int8_t> buffer;
    const Codec::Prepared prepared = codec.between(base + i * stride, buffer);
    const auto* at = static_cast<const std::int8_t*>(prepared.measure.query);
    const bool bytes = config.codes == Codes::int4 && prepared.sum == Sum::l2; // 16 u
    std::vector<int> v(prepared.measure.n);
    for (std::size_t j = 0; j < v.size(); ++j) v[j] = bytes ? static_cast<std::uint8_t>(at[j]) : at[j];
    for (std::size_t j = config.dim; j < v.size(); ++j) CHECK_EQ(v[j], 0);
    v.resize(config.dim);
    if (bytes) {
      for (int& x : v) x -= 120;
    }
    return v;
  }
  [[nodiscard]] std::vector<double> decoded(std::size_t i) const {
    std::vector<double> values;
    for (const int v : integers(i))
      values.push_back(codec.values().mean[values.size()] + double{codec.values().step} * v);
    return values;
  }
  [[nodiscard]] float run(Codec::Prepared prepared, std::size_t i) const {
    prepared.measure.rows = base;
    prepared.measure.stride = stride;
    const auto slot = static_cast<std::uint32_t>(i);
    float distance = 0;
    kernels.measure[static_cast<std::size_t>(codec.form())][static_cast<std::size_t>(prepared.sum)](
        prepared.measure, &slot, 1, &distance);
    return distance;
  }

  Config config;
  const Kernels& kernels;
  std::vector<float> vectors;
  Codec codec;
  std::size_t stride;
  std::vector<std::byte> codes;
  std::byte* base = nullptr;
  std::size_t cut = 0;
};

template <class Check>
void for_each_codec(std::uint32_t seed, Check check) {
  std::mt19937 random(seed);
  for (const Kernels* kernels : compiled_kernels()) {
    if (!runs_here(*kernels)) continue;
    for (const Codes codes : both) {
      for (const Metric metric : every_metric) {
        for (const std::uint32_t dim : dims) {
          const Config config = config_of(dim, codes, metric);
          check(Coded(config, *kernels, sample_of(random, config, 40)), random);
        }
      }
    }
  }
}

} // namespace

TEST(codes_are_as_long_as_their_padded_dimensions) {
  for (const std::uint32_t dim : dims) {
    CHECK_EQ(Codec::bytes(config_of(dim, Codes::none, Metric::l2)), std::size_t{0});
    CHECK_EQ(Codec::bytes(config_of(dim, Codes::int8, Metric::l2)), std::size_t{(dim + 63) / 64 * 64});
    CHECK_EQ(Codec::bytes(config_of(dim, Codes::int4, Metric::l2)), std::size_t{(dim + 127) / 128 * 64});
  }
}

TEST(a_code_is_the_nearest_of_the_grid_and_what_lies_beyond_is_counted) {
  for_each_codec(101, [](const Coded& c, std::mt19937&) {
    const double step = c.codec.values().step;
    const double mesh = c.config.codes == Codes::int4 ? 16 * step : step;
    const double edge =
        c.config.codes == Codes::int4 ? 128 : c.most(); // in steps; beyond it values are cut off
    std::size_t surely = 0;
    std::size_t maybe = 0; // within rounding of the edge
    for (std::size_t i = 0; i < 40; ++i) {
      const auto v = c.integers(i);
      const auto values = c.decoded(i);
      for (std::size_t j = 0; j < c.config.dim; ++j) {
        const double steps = (static_cast<double>(c.row(i)[j]) - c.codec.values().mean[j]) / step;
        if (std::abs(steps) > edge + 1e-3) {
          ++surely;
          CHECK_EQ(v[j], steps > 0 ? c.most() : -c.most());
        } else {
          maybe += std::abs(steps) > edge - 1e-3 ? 1u : 0u;
          const double off = std::abs(c.row(i)[j] - values[j]);
          CHECK(off <= (c.config.metric == Metric::l2 ? 0.501 : 0.751) * mesh); // the others are balanced
        }
        CHECK(c.config.codes == Codes::int8 || (v[j] + 120) % 16 == 0);
      }
    }
    CHECK(c.cut >= surely && c.cut <= surely + maybe);
  });
}

// What rounding takes from a vector is next to nothing along the vector itself, at little loss of precision.
TEST(roundings_of_products_are_balanced) {
  for_each_codec(106, [](const Coded& c, std::mt19937&) {
    if (c.config.metric == Metric::l2 || c.config.dim < 63) return;
    const double step = c.codec.values().step;
    const double mesh = c.config.codes == Codes::int4 ? 16 * step : step;
    const double shift = c.config.codes == Codes::int4 ? 0.5 : 0.0;
    double along = 0;
    double lost = 0;
    double along_plain = 0; // of the nearest on the grid
    double lost_plain = 0;
    for (std::size_t i = 0; i < 40; ++i) {
      const auto values = c.decoded(i);
      double product = 0;
      double product_plain = 0;
      for (std::size_t j = 0; j < c.config.dim; ++j) {
        const double x = c.row(i)[j];
        const double mean = c.codec.values().mean[j];
        const double most = c.most() * step;
        const double nearest =
            std::clamp((std::round((x - mean) / mesh - shift) + shift) * mesh, -most, most);
        product += x * (x - values[j]);
        product_plain += x * (x - mean - nearest);
        lost += (x - values[j]) * (x - values[j]);
        lost_plain += (x - mean - nearest) * (x - mean - nearest);
      }
      along += product * product;
      along_plain += product_plain * product_plain;
    }
    CHECK(along <= 0.15 * along_plain);
    CHECK(lost <= 1.2 * lost_plain);
  });
}

TEST(a_query_measures_codes_as_a_sum_in_double_does) {
  for_each_codec(102, [](const Coded& c, std::mt19937& random) {
    const CodecValues& values = c.codec.values();
    for (int q = 0; q < 5; ++q) {
      Vector query = random_vector(random, c.config.dim);
      const float length =
          c.config.metric == Metric::cosine ? inverse_norm(query.data(), query.size()) : 1.0f;
      double largest = 0;
      for (std::size_t j = 0; j < query.size(); ++j) {
        query[j] *= length;
        if (c.config.metric == Metric::l2) { // within the grid, beyond which a query is cut off as well
          const float most = static_cast<float>(std::min(c.most(), 120)) * values.step;
          query[j] = values.mean[j] + std::clamp(query[j], -most, most);
        }
        largest = std::max(largest, std::abs(static_cast<double>(query[j])));
      }
      std::vector<std::int8_t> buffer;
      const Codec::Prepared prepared = c.codec.query(query.data(), buffer);
      for (std::size_t i = 0; i < 40; ++i) {
        const double got = c.run(prepared, i);
        const auto row = c.decoded(i);
        double dot = 0;
        double l2 = 0;
        double weight = 0; // how much an error in a value of the query counts
        double sizes = 0;  // of what is added up in float
        for (std::size_t j = 0; j < query.size(); ++j) {
          dot += query[j] * row[j];
          l2 += (query[j] - row[j]) * (query[j] - row[j]);
          weight += std::abs(row[j] - values.mean[j]);
          sizes += std::abs(query[j]) * (std::abs(row[j]) + 250.0 * values.step);
        }
        if (c.config.metric == Metric::l2) {
          const double error = values.step / 2 * std::sqrt(static_cast<double>(c.config.dim));
          CHECK(std::abs(std::sqrt(got) - std::sqrt(l2)) <= 1.001 * error + 1e-4);
        } else {
          CHECK(std::abs(got - (1 - dot)) <= 0.501 * largest / 127 * weight + 1e-6 * sizes + 1e-6);
        }
      }
    }
  });
}

// Otherwise its differences from codes would not fit a byte.
TEST(a_query_beyond_the_grid_counts_as_its_ends) {
  for_each_codec(107, [](const Coded& c, std::mt19937& random) {
    if (c.config.metric != Metric::l2 || c.config.codes != Codes::int8) return;
    CHECK_EQ(c.most(), 63);
    const CodecValues& values = c.codec.values();
    Vector beyond(c.config.dim);
    Vector ends(c.config.dim);
    for (std::size_t j = 0; j < beyond.size(); ++j) {
      const float sign = random() % 2 == 0 ? 1.0f : -1.0f;
      beyond[j] = values.mean[j] + sign * 100 * values.step;
      ends[j] = values.mean[j] + sign * 63 * values.step;
    }
    std::vector<std::int8_t> buffer;
    std::vector<std::int8_t> other;
    const Codec::Prepared far = c.codec.query(beyond.data(), buffer);
    const Codec::Prepared near = c.codec.query(ends.data(), other);
    for (std::size_t i = 0; i < 40; ++i) CHECK_EQ(c.run(far, i), c.run(near, i));
  });
}

TEST(codes_measure_one_another_as_their_integers_do) {
  for_each_codec(103, [](const Coded& c, std::mt19937&) {
    const double step = c.codec.values().step;
    std::vector<std::int8_t> buffer_a;
    std::vector<std::int8_t> buffer_b;
    for (std::size_t a = 0; a < 12; ++a) {
      const Codec::Prepared from_a = c.codec.between(c.base + a * c.stride, buffer_a);
      const auto va = c.integers(a);
      for (std::size_t b = 0; b < 12; ++b) {
        const Codec::Prepared from_b = c.codec.between(c.base + b * c.stride, buffer_b);
        const auto vb = c.integers(b);
        double dot = 0;
        double l2 = 0;
        double sizes = 0;
        for (std::size_t j = 0; j < va.size(); ++j) {
          dot += va[j] * vb[j];
          l2 += (va[j] - vb[j]) * (va[j] - vb[j]);
          sizes += std::abs(va[j]) * 250.0;
        }
        const double scale = step * step;
        const double expected = c.config.metric == Metric::inner_product ? 1 - scale * dot
                                : c.config.metric == Metric::cosine      ? scale * l2 / 2
                                                                         : scale * l2;
        const double tolerance =
            c.config.metric == Metric::inner_product ? 1e-6 * (1 + scale * sizes) : 1e-6 * expected;
        CHECK(std::abs(c.run(from_a, b) - expected) <= tolerance);
        CHECK(std::abs(c.run(from_a, b) - c.run(from_b, a)) <= 2 * tolerance);
        if (a == b && c.config.metric != Metric::inner_product) CHECK_EQ(c.run(from_a, b), 0.0f);
      }
    }
  });
}

TEST(training_takes_the_mean_and_reports_the_error_of_its_sample) {
  for_each_codec(104, [](const Coded& c, std::mt19937&) {
    const CodecValues& values = c.codec.values();
    CHECK_EQ(values.mean.size(), std::size_t{c.config.dim});
    std::vector<double> mean(c.config.dim, 0.0);
    double lost = 0;
    for (std::size_t i = 0; i < 40; ++i) {
      const auto row = c.decoded(i);
      for (std::size_t j = 0; j < row.size(); ++j) {
        mean[j] += static_cast<double>(c.row(i)[j]) / 40;
        lost += (c.row(i)[j] - row[j]) * (c.row(i)[j] - row[j]);
      }
    }
    for (std::size_t j = 0; j < mean.size(); ++j) {
      const double expected = c.config.metric == Metric::inner_product ? 0 : mean[j];
      CHECK(std::abs(values.mean[j] - expected) < 1e-5);
    }
    const double error = std::sqrt(lost / (40.0 * c.config.dim));
    const double balance = c.config.metric == Metric::l2 ? 0 : 0.1; // of which training knows nothing
    CHECK(values.error < 1.02 * error + 1e-7);
    CHECK(values.error > (0.98 - balance) * error - 1e-7);
    CHECK(values.step > 0);
  });
}

TEST(equal_vectors_have_a_codec_as_well) {
  const Kernels& kernels = *chosen_kernels().value();
  for (const Codes codes : both) {
    for (const Metric metric : every_metric) {
      for (const float value : {0.125f, 0.0f, -3.0f}) {
        if (metric == Metric::cosine && value != 0.125f) continue; // of unit length
        const Config config = config_of(64, codes, metric);
        const Coded c(config, kernels, std::vector<float>(64 * 300, value),
                      Codec::train(config, std::vector<float>(64 * 300, value), 300));
        CHECK(c.codec.values().step > 0);
        CHECK(std::isfinite(c.codec.values().error));
        CHECK_EQ(c.codec.values().trained_on, std::uint64_t{300});
        const auto row = c.decoded(7);
        for (const double x : row) CHECK(std::abs(x - value) <= std::max(0.1, std::abs(0.1 * value)));
        std::vector<std::int8_t> buffer;
        const float distance = c.run(c.codec.query(c.row(0), buffer), 5);
        CHECK(std::isfinite(distance));
      }
    }
  }
}

TEST(training_cuts_outliers_off_where_that_loses_less) {
  std::mt19937 random(105);
  const Kernels& kernels = *chosen_kernels().value();
  const Config config = config_of(64, Codes::int4, Metric::l2);
  auto rows = random_rows(random, 2000, 64);
  std::size_t outliers = 0;
  for (std::size_t i = 0; i < rows.size(); i += 4001, ++outliers) rows[i] = 10;
  const CodecValues values = Codec::train(config, rows, 2000);
  CHECK(values.step < 0.6f * 10 / 120);
  const Coded best(config, kernels, rows, values);
  CHECK(best.cut >= outliers);
  // Against the grid that holds all.
  CodecValues wide = values;
  wide.step = 10.5f / 120;
  const Coded all(config, kernels, rows, wide);
  CHECK_EQ(all.cut, std::size_t{0});
  const auto lost = [](const Coded& c) {
    double sum = 0;
    for (std::size_t i = 0; i < 2000; ++i) {
      const auto row = c.decoded(i);
      for (std::size_t j = 0; j < row.size(); ++j) sum += (c.row(i)[j] - row[j]) * (c.row(i)[j] - row[j]);
    }
    return sum;
  };
  CHECK(lost(best) < 0.7 * lost(all));
}
