// Every set of kernels that runs here against sums in double: all forms, all tail lengths, unaligned, NaN and
// infinity, extremes of the integers. Rows and queries end where reading on would fault.
#include <algorithm>
#include <string>

#include "check.h"
#include "kernel_rows.h"

using namespace embedcore::hnsw;

namespace {

// Of a sum of products in float32, in any order, relative to the sum of their magnitudes.
constexpr double rounding = 1e-6;

std::vector<std::size_t> lengths() {
  std::vector<std::size_t> all;
  for (std::size_t n = 0; n <= 67; ++n) all.push_back(n);
  all.insert(all.end(), {127, 384, 1000});
  return all;
}

float one_sum(const Kernels& kernels, const Query& query, const Rows& rows, std::uint32_t slot = 0) {
  float got = -1;
  measure(kernels, rows.form, query.sum, measure_of(query, rows), &slot, 1, &got);
  return got;
}

// Integers come out exact, on every set, so that all sets agree; one by one, and five together, of which some
// sets take four at once.
void check_exact(const Query& query, const Rows& rows) {
  std::vector<float> wanted;
  for (std::uint32_t slot = 0; slot < rows.count; ++slot)
    wanted.push_back(static_cast<float>(expected(query, rows, slot).sum));
  for (const Kernels* kernels : running()) {
    std::uint32_t slots[5];
    for (std::uint32_t i = 0; i < 5; ++i) slots[i] = (7 * i + 1) % static_cast<std::uint32_t>(rows.count);
    float got[5];
    measure(*kernels, rows.form, query.sum, measure_of(query, rows), slots, 5, got);
    for (std::size_t i = 0; i < 5; ++i) CHECK_EQ(got[i], wanted[slots[i]]);
    for (std::uint32_t slot = 0; slot < rows.count; ++slot)
      CHECK_EQ(one_sum(*kernels, query, rows, slot), wanted[slot]);
  }
}

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

// One, infinity or NaN as value i of a row of floats.
void put_float(const Rows& rows, std::size_t i, float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (rows.form == Form::f32) write(rows.row(0) + 4 * i, value);
  if (rows.form == Form::bf16) write(rows.row(0) + 2 * i, static_cast<std::uint16_t>(bits >> 16));
  if (rows.form == Form::f16) {
    const std::uint16_t half = std::isnan(value) ? 0x7E00 : std::isinf(value) ? 0x7C00 : 0x3C00;
    write(rows.row(0) + 2 * i, half);
  }
}

} // namespace

TEST(sums_of_floats_agree_with_double_for_all_lengths_and_alignments) {
  std::mt19937 random(1);
  for (const Form form : {Form::f32, Form::f16, Form::bf16, Form::s8}) {
    for (const Sum sum : every_sum) {
      for (const std::size_t n : lengths()) {
        for (const std::size_t shift : {0, 1, 2, 3}) {
          const Rows rows(form, n, 3, shift == 0 ? 0 : 4 + shift, shift);
          const Query query(form, sum, n, shift);
          rows.fill(random);
          query.fill(random);
          for (std::size_t slot = 0; slot < rows.count; ++slot) {
            const Expected want = expected(query, rows, slot);
            for (const Kernels* kernels : running()) {
              const double got = one_sum(*kernels, query, rows, static_cast<std::uint32_t>(slot));
              CHECK(std::abs(got - want.sum) <= rounding * want.magnitude);
            }
          }
        }
      }
    }
  }
}

TEST(sums_of_integers_are_exact) {
  std::mt19937 random(2);
  for (const Form form : {Form::i8, Form::i7, Form::u4}) {
    for (const Sum sum : every_sum) {
      for (const std::size_t n : {0, 64, 128, 192, 256, 384, 448, 1024, 65536}) {
        if (form == Form::u4 && n % 128 != 0) continue;
        for (const std::size_t shift : {0, 1}) {
          const Rows rows(form, n, 2, shift, shift);
          const Query query(form, sum, n, shift);
          rows.fill(random);
          query.fill(random);
          check_exact(query, rows);
        }
      }
    }
  }
}

TEST(the_largest_integers_overflow_nothing) {
  struct Extreme {
    Form form;
    Sum sum;
    int query;
    std::uint32_t row; // the bits that put() makes it from
  };
  constexpr std::uint32_t least = 0;  // -127
  constexpr std::uint32_t most = 254; // 127
  const Extreme extremes[] = {
      {Form::i8, Sum::dot, 127, most}, {Form::i8, Sum::dot, 127, least}, {Form::i8, Sum::dot, -127, least},
      {Form::i8, Sum::l2, 127, most},  {Form::i8, Sum::l2, 127, least},  {Form::i8, Sum::l2, -127, most},
      {Form::i7, Sum::l2, 63, 0},      {Form::i7, Sum::l2, -63, 126},    {Form::i7, Sum::dot, 127, 126},
      {Form::u4, Sum::dot, 127, 15},   {Form::u4, Sum::dot, -127, 15},   {Form::u4, Sum::l2, 255, 0},
      {Form::u4, Sum::l2, 0, 15},      {Form::u4, Sum::l2, 255, 15},
  };
  for (const Extreme& extreme : extremes) {
    for (const std::size_t n : {128, 384, 65536}) {
      const Rows rows(extreme.form, n, 1);
      const Query query(extreme.form, extreme.sum, n);
      for (std::size_t i = 0; i < n; ++i) {
        rows.put(0, i, extreme.row);
        query.put(i, extreme.query);
      }
      check_exact(query, rows);
      query.put(n - 1, 1); // every value counts
      check_exact(query, rows);
    }
  }
}

TEST(every_bit_of_every_dimension_of_u4_has_its_place) {
  constexpr std::size_t n = 256;
  for (const Sum sum : every_sum) {
    const Rows rows(Form::u4, n, 1);
    const Query query(Form::u4, sum, n);
    for (std::size_t i = 0; i < n; ++i) query.put(i, 1 + static_cast<int>(i % 127));
    for (std::size_t i = 0; i < n; ++i) {
      for (std::uint32_t b = 0; b < 4; ++b) {
        rows.put(0, i, 1u << b);
        check_exact(query, rows);
      }
      rows.put(0, i, 0);
    }
  }
}

TEST(unpacked_u4_is_sixteen_times_its_values) {
  std::mt19937 random(6);
  for (const std::size_t n : {128, 384, 1024}) {
    const Rows rows(Form::u4, n, 1);
    rows.fill(random);
    for (const Kernels* kernels : running()) {
      const Guarded out(n);
      kernels->unpack(rows.row(0), n, reinterpret_cast<std::uint8_t*>(out.data()));
      for (std::size_t i = 0; i < n; ++i) CHECK_EQ(static_cast<double>(out.data()[i]), 16 * rows.kept(0, i));
    }
  }
}

TEST(nan_and_infinity_come_through_from_any_position) {
  for (const Form form : {Form::f32, Form::f16, Form::bf16, Form::s8}) {
    for (const Sum sum : every_sum) {
      for (const std::size_t n : {51, 67}) {
        const Rows rows(form, n, 1);
        const Query query(form, sum, n);
        for (std::size_t i = 0; i < n; ++i) {
          put_float(rows, i, 1);
          query.put(i, 1.0f);
        }
        if (form == Form::s8) {
          for (std::size_t i = 0; i < n; ++i) rows.put(0, i, 128); // 1
          write(rows.row(0) + scales_at(n), Scales{1, 1, 0});
        }
        for (const Kernels* kernels : running()) {
          CHECK_EQ(one_sum(*kernels, query, rows), sum == Sum::dot ? static_cast<float>(n) : 0.0f);
          for (std::size_t at = 0; at < n; ++at) {
            query.put(at, not_a_number);
            CHECK(std::isnan(one_sum(*kernels, query, rows)));
            query.put(at, -inf);
            CHECK_EQ(one_sum(*kernels, query, rows), sum == Sum::dot ? -inf : inf);
            query.put(at, 1.0f);
            if (form == Form::s8) continue;
            put_float(rows, at, not_a_number);
            CHECK(std::isnan(one_sum(*kernels, query, rows)));
            put_float(rows, at, inf);
            CHECK_EQ(one_sum(*kernels, query, rows), inf);
            put_float(rows, at, 1);
          }
        }
      }
    }
  }
}

TEST(every_half_is_converted_exactly) {
  constexpr std::size_t n = 1 << 16;
  const Rows rows(Form::f16, 1, n);
  for (std::size_t bits = 0; bits < n; ++bits) write(rows.row(bits), static_cast<std::uint16_t>(bits));
  const Query query(Form::f16, Sum::dot, 1);
  query.put(0, 1.0f);
  std::vector<std::uint32_t> slots(n);
  for (std::uint32_t slot = 0; slot < n; ++slot) slots[slot] = slot;
  for (const Kernels* kernels : running()) {
    std::vector<float> got(n);
    measure(*kernels, Form::f16, Sum::dot, measure_of(query, rows), slots.data(), n, got.data());
    std::size_t wrong = 0;
    for (std::size_t bits = 0; bits < n; ++bits) {
      const double want = from_half(static_cast<std::uint16_t>(bits));
      wrong += std::isnan(want) ? !std::isnan(got[bits]) : !(got[bits] == want);
    }
    CHECK_EQ(wrong, 0u);
  }
}

TEST(distances_are_offset_and_scale_and_factor_and_term) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  const std::uint32_t slots[] = {4, 0, 2, 2, 3};
  constexpr std::size_t count = std::size(slots);
  for (const Form form : every_form) {
    for (const Sum sum : every_sum) {
      const Rows rows(form, 128, 5, 3);
      const Query query(form, sum, 128);
      rows.fill(random);
      query.fill(random);
      float scales[5][3]; // factor, term, something else
      for (auto& scale : scales) {
        for (float& x : scale) x = normal(random);
      }
      for (int parts = 0; parts < 4; ++parts) {
        Measure m = measure_of(query, rows);
        m.offset = 2.5f;
        m.scale = -0.3f;
        m.factors = (parts & 1) != 0 ? reinterpret_cast<const std::byte*>(&scales[0][0]) : nullptr;
        m.terms = (parts & 2) != 0 ? reinterpret_cast<const std::byte*>(&scales[0][1]) : nullptr;
        m.factor_stride = sizeof(scales[0]);
        for (const Kernels* kernels : running()) {
          float got[count + 1];
          got[count] = 17;
          measure(*kernels, form, sum, m, slots, count, got);
          for (std::size_t i = 0; i < count; ++i) {
            const Expected e = expected(query, rows, slots[i]);
            const double factor = m.factors == nullptr ? 1 : scales[slots[i]][0];
            const double term = m.terms == nullptr ? 0 : scales[slots[i]][1];
            const double want = m.offset + m.scale * e.sum * factor + term;
            const double size = std::abs(m.scale * factor) * e.magnitude + std::abs(term) + 3;
            CHECK(std::abs(got[i] - want) <= 2 * rounding * size);
          }
          CHECK_EQ(got[count], 17.0f);
          measure(*kernels, form, sum, m, slots, 0, got + count); // nothing asked, nothing written
          CHECK_EQ(got[count], 17.0f);
        }
      }
    }
  }
}

TEST(plain_dot_l2_and_largest_agree_with_double) {
  std::mt19937 random(4);
  for (const std::size_t n : lengths()) {
    const Rows rows(Form::f32, n, 1);
    const Query query(Form::f32, Sum::dot, n, 1);
    const Query squares(Form::f32, Sum::l2, n);
    rows.fill(random);
    query.fill(random);
    if (n != 0) std::memcpy(squares.memory.data(), query.memory.data(), 4 * n);
    const auto* a = reinterpret_cast<const float*>(query.memory.data());
    const auto* b = reinterpret_cast<const float*>(rows.memory.data());
    const Expected dot = expected(query, rows, 0);
    const Expected l2 = expected(squares, rows, 0);
    double most = 0;
    for (std::size_t i = 0; i < n; ++i) most = std::max(most, std::abs(query.value(i)));
    for (const Kernels* kernels : running()) {
      CHECK(std::abs(kernels->dot(a, b, n) - dot.sum) <= rounding * dot.magnitude);
      CHECK(std::abs(kernels->l2(a, b, n) - l2.sum) <= rounding * l2.magnitude);
      CHECK_EQ(static_cast<double>(kernels->largest(a, n)), most);
    }
  }
  const float odd[] = {not_a_number, -3, 2, not_a_number, -inf, not_a_number};
  for (const Kernels* kernels : running()) {
    CHECK_EQ(kernels->largest(odd, 4), 3.0f);
    CHECK_EQ(kernels->largest(odd, 6), inf);
  }
}

TEST(quantising_rounds_to_the_nearest_and_counts_what_it_cuts_off) {
  std::mt19937 random(5);
  for (const std::size_t n : lengths()) {
    for (const int limit : {7, 127}) {
      for (const bool centred : {false, true}) {
        const Query x(Form::f32, Sum::dot, n, 1);
        const Query mean(Form::f32, Sum::dot, n);
        x.fill(random);
        mean.fill(random);
        const float inverse = static_cast<float>(limit) / 1.5f;
        double expected_cut = 0;
        for (std::size_t i = 0; i < n; ++i) {
          expected_cut += std::abs(x.value(i) - (centred ? mean.value(i) : 0)) * inverse > limit;
        }
        for (const Kernels* kernels : running()) {
          const Guarded out(n);
          auto* bytes = reinterpret_cast<std::int8_t*>(out.data());
          const std::size_t cut =
              kernels->quantise(reinterpret_cast<const float*>(x.memory.data()),
                                centred ? reinterpret_cast<const float*>(mean.memory.data()) : nullptr,
                                inverse, limit, n, bytes);
          CHECK_EQ(static_cast<double>(cut), expected_cut);
          for (std::size_t i = 0; i < n; ++i) {
            const double value = (x.value(i) - (centred ? mean.value(i) : 0)) * inverse;
            const double kept = std::clamp(value, -1.0 * limit, 1.0 * limit);
            CHECK(std::abs(bytes[i] - kept) <= 0.5 + 1e-5);
          }
        }
      }
    }
  }
  for (const Kernels* kernels : running()) {
    const float exact[] = {2.4f, 2.6f, -2.4f, -2.6f, 0, -7, 7, 7.2f, -9, inf, -inf, 6.6f};
    const int rounded[] = {2, 3, -2, -3, 0, -7, 7, 7, -7, 7, -7, 7};
    std::int8_t out[std::size(exact)];
    CHECK_EQ(kernels->quantise(exact, nullptr, 1, 7, std::size(exact), out), 4u);
    for (std::size_t i = 0; i < std::size(exact); ++i) CHECK_EQ(int{out[i]}, rounded[i]);
  }
}

TEST(the_chosen_kernels_run_here) {
  const auto& chosen = chosen_kernels();
  CHECK(chosen.ok());
  CHECK(runs_here(*chosen.value()));
  CHECK_EQ(std::string(compiled_kernels().front()->name), "scalar");
}
