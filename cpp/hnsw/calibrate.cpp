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
//
// Of a place that is small and far denser than the others the sample says nothing. Its members may be linked
// by way of nodes that lie far outside of it, beyond what any exponent allows; so where the k-th nearest is
// less than half as far as a floor, the stop is measured from the floor instead.
#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t fewest = 1024;
constexpr std::size_t growth = 4; // measured again at so many times the items
constexpr std::size_t fewest_sampled = 64;
constexpr std::size_t most_sampled = 256;
constexpr std::size_t items_per_sample = 16;
constexpr std::size_t near = 10;
constexpr std::size_t far = 100;
constexpr std::array<float, 7> shares{2.0f / 3.0f, 0.8f, 0.9f, 1.0f, 1.2f, 1.5f, 2.0f};
// What is lost at two deviations are 2% of the rows at the edge of what a walk keeps, and none well inside.
constexpr std::array<double, 3> trusts{2.0, 2.5, 3.0};
// Of the sampled vectors so many in a hundred lie in denser places than the floor says, that of partial
// distances and that of the stop: of a place that few lie in too little is known.
constexpr std::size_t below_floor = 10;
// Of recall at ef `far`, against a search without the stop, or with rows summed whole. Queries lose several
// times what stored vectors do.
constexpr double lost_by_stop = 0.0015;
constexpr double lost_by_parts = 0.0025;

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
    glance.off();                   // was perhaps not tried yet
    stop_exponent.store(0, std::memory_order_relaxed);
    calibrated_on.store(last, std::memory_order_release);
  }
}

namespace {

// Stored vectors as queries of one index.
class Trial {
 public:
  explicit Trial(Index::Impl& index)
      : x_(index), vector_(index.config.dim), ids_(far + 1), distances_(far + 1) {
    const Slot end = x_.storage.end();
    const std::size_t count = std::clamp(end / items_per_sample, fewest_sampled, most_sampled);
    for (std::size_t i = 0; i < count; ++i) {
      const Slot slot = static_cast<Slot>(i * end / count);
      if (x_.storage.state(slot) == State::live) slots_.push_back(slot);
    }
  }

  // Measures the exponent around each, and what partial distances say of the rows that walks meet there.
  void look_around() {
    for (const Slot slot : slots_) {
      // The nearest is the vector itself.
      if (nearest_of(slot, far + 1, 2 * far) != far + 1 || !(distances_[near] > 1e-6f)) continue;
      exponents_.push_back(std::log(distances_[far] / distances_[near]) /
                           std::log(static_cast<float>(far) / static_cast<float>(near)));
      reaches_.push_back(distances_[near]);
      if (reads_floats()) compare_parts();
    }
  }
  // Of the exponents; none: too little was found.
  [[nodiscard]] std::optional<float> median() {
    if (exponents_.size() < fewest_sampled / 4) return std::nullopt;
    const auto middle = exponents_.begin() + static_cast<std::ptrdiff_t>(exponents_.size() / 2);
    std::nth_element(exponents_.begin(), middle, exponents_.end());
    return *middle;
  }
  [[nodiscard]] Glance::Limits limits(double deviations) const {
    Glance::Limits limits{};
    const float lowest = floor();
    for (std::size_t i = 0; i < Glance::count(x_.config.dim); ++i) {
      limits[i] = fits_[i].limit(x_.config.metric == Metric::l2, deviations);
      limits[i].floor = lowest;
    }
    return limits;
  }

  [[nodiscard]] float floor() const {
    if (reaches_.empty()) return 0;
    std::vector<float> sorted = reaches_;
    const auto at = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() * below_floor / 100);
    std::nth_element(sorted.begin(), at, sorted.end());
    return *at;
  }

  // What the index answers now is what answers are compared with from now on.
  void remember() {
    for (const Slot slot : slots_) {
      const std::size_t n = nearest_of(slot, near, far);
      for (std::size_t i = 0; i < near; ++i)
        without_.push_back(i < n ? Answer{ids_[i], distances_[i]} : Answer{});
    }
  }
  // The share of that which it does not answer now, though it is nearer than what it answers.
  [[nodiscard]] double lost() {
    std::size_t lost = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const std::size_t n = nearest_of(slots_[i], near, far);
      const auto end = ids_.begin() + static_cast<std::ptrdiff_t>(n);
      for (const Answer& before : std::span(without_).subspan(i * near, near)) {
        const bool nearer = before.id >= 0 && (n < near || before.distance < distances_[near - 1]);
        lost += nearer && std::find(ids_.begin(), end, before.id) == end ? 1u : 0u;
      }
    }
    return static_cast<double>(lost) / static_cast<double>(slots_.size() * near);
  }

 private:
  struct Answer {
    std::int64_t id = -1; // none
    float distance = 0;
  };

  [[nodiscard]] bool reads_floats() const { return x_.config.codes == Codes::none && !x_.space.lean; }

  std::size_t nearest_of(Slot slot, std::size_t k, std::size_t ef) {
    x_.storage.load_original(slot, vector_.data());
    return x_.search(vector_.data(), k, ef, nullptr, ids_.data(), distances_.data(), nullptr);
  }

  // Over the links of some of those that were found.
  void compare_parts() {
    const std::size_t part = Glance::part_dims(x_.config.dim);
    if (part == 0) return;
    std::vector<float> buffer;
    const float* query = unit_length(x_.space, vector_.data(), buffer);
    std::vector<float> row(x_.config.dim);
    for (std::size_t i = near; i <= far; i += 6) {
      const Slot found = x_.table->find(ids_[i]);
      if (found == no_slot) continue;
      const Links links = x_.storage.links(found, 0);
      for (std::size_t j = 0; j < links.count; ++j) {
        const Slot to = links.load(j);
        if (to >= x_.storage.end()) continue;
        x_.storage.load_original(to, row.data());
        compare_parts(query, row.data(), x_.storage.node(to).inverse_norm);
      }
    }
  }
  void compare_parts(const float* query, const float* row, float inverse_norm) {
    const std::size_t dim = x_.config.dim;
    const std::size_t part = Glance::part_dims(dim);
    const bool l2 = x_.config.metric == Metric::l2;
    const auto sum = l2 ? x_.kernels->l2 : x_.kernels->dot;
    std::array<double, most_part_limits + 1> by{};
    double distance = l2 ? 0 : 1;
    std::size_t parts = 0;
    for (std::size_t from = 0; from < dim; from += part, ++parts) {
      const double more = sum(query + from, row + from, std::min(part, dim - from));
      distance += l2 ? more : -more * inverse_norm;
      by[parts] = distance;
    }
    const double all = x_.kernels->dot(query, query, dim);
    double own = 0;
    for (std::size_t i = parts - 1; i-- > 0;) {
      const std::size_t from = (i + 1) * part;
      const std::size_t dims = std::min(part, dim - from);
      own += x_.kernels->dot(query + from, query + from, dims);
      fits_[i].add(by[i], own / all, distance);
    }
  }

  Index::Impl& x_;
  std::vector<Slot> slots_;
  std::vector<float> vector_;
  std::vector<std::int64_t> ids_;
  std::vector<float> distances_;
  std::vector<float> exponents_;
  std::array<PartFit, most_part_limits> fits_{};
  std::vector<float> reaches_;  // of each: the distance of the last of `near`, below which no bound is
  std::vector<Answer> without_; // `near` for each slot
};

} // namespace

void Index::Impl::calibrate() {
  const Pin pin(*this);
  stop_floor.store(0, std::memory_order_relaxed);
  stop_exponent.store(0, std::memory_order_relaxed); // searches that go on meanwhile lose a little time
  glance.off();
  Trial trial(*this);
  trial.look_around();
  const std::optional<float> exponent = trial.median();
  if (!exponent) return;
  trial.remember();
  for (const double trust : trusts) {
    glance.set(trial.limits(trust));
    if (trial.lost() <= lost_by_parts) break;
    glance.off();
  }
  for (const float share : shares) {
    stop_exponent.store(share * *exponent, std::memory_order_relaxed);
    if (!mutant("untried_stop") && trial.lost() > lost_by_stop) continue;
    stop_floor.store(mutant("no_stop_floor") ? 0.0f : trial.floor(), std::memory_order_relaxed);
    return;
  }
  stop_exponent.store(0, std::memory_order_relaxed);
}

} // namespace embedcore::hnsw
