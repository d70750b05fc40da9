// Calibrating the early stop of searches.
//
// Around a vector the distance of the j-th nearest grows like a power of j, whose exponent is one over the
// local intrinsic dimension (Amsaleg et al., KDD 2015). A walk of breadth ef has seen enough when what it
// would expand next is farther than the k-th nearest times (ef / k) to that power: for a query in a dense
// place that comes early, for one between clusters late or never: search_state.h says where that ends. The
// idea of stopping by distance is that of Al-Jazzazi et al., Distance Adaptive Beam Search, 2025
// (arXiv:2505.15636).
//
// The exponent is taken from stored vectors, and two thirds of it are used: queries come from sparser places.
// Where distances crowd together, as in many dimensions without structure, that would end walks far too soon:
// so searches with the stop are compared with such without, and more of the exponent is used, or no stop at
// all, until next to nothing is lost.
#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <vector>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t fewest = 1024;
constexpr std::size_t growth = 4; // measured again at so many times the items
constexpr std::size_t sampled = 64;
constexpr std::size_t near = 10;
constexpr std::size_t far = 100;
constexpr std::array<float, 4> shares{2.0f / 3.0f, 1.0f, 1.5f, 2.0f};
constexpr double loss = 0.005; // of recall at ef `far`, against a search without the stop

} // namespace

void Index::Impl::calibrate_if_due() {
  if (config.metric == Metric::inner_product) return; // distances below zero have no such law
  const std::size_t there = live.load(std::memory_order_relaxed);
  std::size_t last = calibrated_on.load(std::memory_order_relaxed);
  if (there < fewest || there < growth * last) return;
  if (!calibrated_on.compare_exchange_strong(last, there, std::memory_order_acq_rel))
    return; // another thread
  try {
    calibrate();
  } catch (const std::bad_alloc&) { // another time: what was added is there
    calibrated_on.store(last, std::memory_order_release);
  }
}

void Index::Impl::calibrate() {
  const Pin pin(*this);
  std::vector<Slot> slots;
  const Slot end = storage.end();
  for (std::size_t i = 0; i < sampled; ++i) {
    const Slot slot = static_cast<Slot>(i * end / sampled);
    if (storage.state(slot) == State::live) slots.push_back(slot);
  }
  std::vector<float> vector(config.dim);
  std::vector<std::int64_t> ids(far + 1);
  std::vector<float> distances(far + 1);
  const auto nearest_of = [&](Slot slot, std::size_t k, std::size_t ef) {
    storage.load_original(slot, vector.data());
    return search(vector.data(), k, ef, nullptr, ids.data(), distances.data(), nullptr);
  };

  stop_exponent.store(0, std::memory_order_relaxed); // searches that go on meanwhile lose a little time
  std::vector<float> exponents;
  for (const Slot slot : slots) {
    // The nearest is the vector itself.
    if (nearest_of(slot, far + 1, 2 * far) != far + 1 || !(distances[near] > 1e-6f)) continue;
    exponents.push_back(std::log(distances[far] / distances[near]) /
                        std::log(static_cast<float>(far) / static_cast<float>(near)));
  }
  if (exponents.size() < sampled / 4) return;
  const auto middle = exponents.begin() + static_cast<std::ptrdiff_t>(exponents.size() / 2);
  std::nth_element(exponents.begin(), middle, exponents.end());

  std::vector<std::int64_t> without; // `near` ids for each slot, sorted
  for (const Slot slot : slots) {
    const std::size_t n = nearest_of(slot, near, far);
    std::fill(ids.begin() + static_cast<std::ptrdiff_t>(n), ids.begin() + near, -1);
    std::sort(ids.begin(), ids.begin() + near);
    without.insert(without.end(), ids.begin(), ids.begin() + near);
  }
  for (const float share : shares) {
    stop_exponent.store(share * *middle, std::memory_order_relaxed);
    std::size_t lost = 0;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      const auto first = without.begin() + static_cast<std::ptrdiff_t>(i * near);
      const std::size_t n = nearest_of(slots[i], near, far);
      const auto found = static_cast<std::size_t>(
          std::count_if(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n),
                        [&](std::int64_t id) { return std::binary_search(first, first + near, id); }));
      lost += near - found;
    }
    if (static_cast<double>(lost) <= loss * static_cast<double>(slots.size() * near)) return;
  }
  stop_exponent.store(0, std::memory_order_relaxed);
}

} // namespace embedcore::hnsw
