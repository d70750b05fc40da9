// The search itself: scatter over shards, gather, blend.
#include "serving/execute.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/xxhash.h"
#include "dualwrite/blend.h"

namespace embedcore::serving {

namespace {

using dualwrite::Candidate;

struct Found { // a generation's list: its k nearest over all shards
  std::vector<std::int64_t> ids;
  std::vector<float> distances;
  Status damage; // of a shard that is out of service, which the list lacks

  [[nodiscard]] dualwrite::List list() const { return {ids, distances}; }
};

bool late(const Execution& run) { return run.deadline_ns != 0 && run.clock() >= run.deadline_ns; }

// Merges the lists of several shards: the k nearest by (distance, id), each id once. An id is in two
// shards only while a split copies it.
void gather(Found& found, std::size_t k) {
  std::vector<dualwrite::Scored> all;
  all.reserve(found.ids.size());
  for (std::size_t i = 0; i < found.ids.size(); ++i) all.push_back({found.distances[i], found.ids[i]});
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.id < b.id || (a.id == b.id && a.distance < b.distance);
  });
  all.erase(std::unique(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.id == b.id; }),
            all.end());
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.distance < b.distance; });
  const std::size_t n = std::min(k, all.size());
  found.ids.resize(n);
  found.distances.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    found.ids[i] = all[i].id;
    found.distances[i] = static_cast<float>(all[i].distance);
  }
}

// Shards one after the other on this thread, until done or late. With one shard the list is that index's,
// untouched.
void search_generation(const Execution& run, std::int32_t position, const float* query, Found& found,
                       Answer& answer) {
  const Generation& generation = run.table.generations[static_cast<std::size_t>(position)];
  const std::size_t ef = run.consumer.ef_search[static_cast<std::size_t>(position)];
  answer.generations.push_back(generation.number);
  answer.shards_asked += static_cast<std::uint32_t>(generation.shards.size());
  for (const auto& shard : generation.shards) {
    if (late(run)) return;
    const std::size_t before = found.ids.size();
    // A list never needs more room than the shard has items, however large k is.
    const std::size_t room = std::min({run.k, shard->size(), run.allowed});
    found.ids.resize(before + room);
    found.distances.resize(before + room);
    const std::size_t breadth = std::max(ef, std::min(run.k, shard->size())); // ef below k is raised to k
    std::int64_t* ids = found.ids.data() + before;
    float* distances = found.distances.data() + before;
    const std::size_t n = room == 0 ? 0 : shard->search(query, room, breadth, run.filter, ids, distances);
    // Asked afterwards: what came from damaged vectors is left out once the damage is known.
    const Status health = shard->health();
    found.ids.resize(before + (health.ok() ? n : 0));
    found.distances.resize(found.ids.size());
    if (health.ok()) {
      ++answer.shards_answered;
    } else {
      found.damage = health;
    }
  }
  if (generation.shards.size() > 1) gather(found, run.k);
}

// Scores by id, in one generation, the candidates its list lacks; what no shard holds stays unknown. All
// shards are asked, as this layer knows numbers and not the strings whose hash places them.
void score_missing(const Execution& run, std::int32_t position, const float* query, double Candidate::* side,
                   std::vector<Candidate>& candidates) {
  std::vector<std::size_t> where;
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (!std::isnan(candidates[i].*side)) continue;
    where.push_back(i);
    ids.push_back(candidates[i].id);
  }
  if (ids.empty()) return;
  std::vector<float> distances(ids.size());
  for (const auto& shard : run.table.generations[static_cast<std::size_t>(position)].shards) {
    if (!shard->health().ok()) continue;
    shard->scores(query, ids, distances.data());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (!std::isnan(distances[i])) candidates[where[i]].*side = distances[i];
    }
  }
}

void blend(const Execution& run, const Found& source, const Found& target, Answer& answer) {
  std::vector<Candidate> candidates;
  dualwrite::join(source.list(), target.list(), candidates);
  if (late(run)) {
    answer.partial = true;
  } else {
    score_missing(run, run.consumer.target, run.target, &Candidate::target, candidates);
    score_missing(run, run.consumer.source, run.source, &Candidate::source, candidates);
  }
  std::vector<dualwrite::Scored> ranked;
  dualwrite::rank(candidates, run.route.weight, run.consumer.calibration.get(), run.k, ranked);
  answer.ids.reserve(ranked.size());
  answer.distances.reserve(ranked.size());
  for (const auto& scored : ranked) {
    answer.ids.push_back(scored.id);
    answer.distances.push_back(static_cast<float>(scored.distance));
  }
}

} // namespace

Result<const Consumer*> consumer_of(const RoutingTable& table, std::size_t slot) {
  if (slot < table.consumers.size() && !table.consumers[slot].closed) return &table.consumers[slot];
  return Error{Code::not_found, "consumer slot " + std::to_string(slot) + " is not open in table version " +
                                    std::to_string(table.version)};
}

Result<Route> route_of(const Consumer& consumer, std::uint64_t user_hash, double weight_override) {
  if (weight_override != no_override) {
    if (!(weight_override >= 0 && weight_override <= 1)) {
      return Error{Code::invalid_argument,
                   "weight " + std::to_string(weight_override) + " is outside [0, 1]"};
    }
    if (weight_override > 0 && consumer.target < 0) {
      return Error{Code::failed_precondition, "weight " + std::to_string(weight_override) +
                                                  " asks for a target, but no migration gives this "
                                                  "consumer one; use weight 0"};
    }
    return Route{weight_override, Arm::control};
  }
  if (user_hash != 0 && consumer.canary_share > 0 &&
      hash_share(user_hash, consumer.canary_salt) < consumer.canary_share) {
    return Route{1, Arm::canary};
  }
  return Route{consumer.weight, Arm::control};
}

Status check_query(const Generation& generation, std::span<const float> query) {
  const hnsw::Config& config = generation.shards.front()->config();
  const auto refuse = [&generation](const std::string& what) {
    return Status(Code::invalid_argument,
                  "the query vector of generation " + std::to_string(generation.number) + what);
  };
  if (query.size() != config.dim) {
    return refuse(" has " + std::to_string(query.size()) + " dimensions, the index has " +
                  std::to_string(config.dim) + "; encode it with that generation's model");
  }
  bool finite = true;
  bool zero = true;
  for (const float x : query) { // without early exit, so that it becomes vector code
    finite &= std::isfinite(x);
    zero &= x == 0;
  }
  if (!finite) return refuse(" has a value that is not finite");
  if (zero && config.metric == hnsw::Metric::cosine) {
    return refuse(" is the zero vector, which has no direction to compare");
  }
  return {};
}

Result<Answer> execute(const Execution& run) {
  Answer answer;
  answer.weight = run.route.weight;
  answer.arm = run.route.arm;
  answer.table_version = run.table.version;
  Found source;
  Found target;
  if (run.route.reads_source()) search_generation(run, run.consumer.source, run.source, source, answer);
  if (run.route.reads_target()) search_generation(run, run.consumer.target, run.target, target, answer);
  answer.partial = answer.shards_answered < answer.shards_asked;
  if (run.route.reads_source() && run.route.reads_target()) {
    blend(run, source, target, answer);
  } else {
    Found& only = run.route.reads_target() ? target : source;
    answer.ids = std::move(only.ids);
    answer.distances = std::move(only.distances);
  }
  if (answer.partial && answer.ids.empty()) {
    for (const Found* found : {&source, &target}) {
      if (!found->damage.ok()) return found->damage.error();
    }
    return Error{Code::deadline_exceeded,
                 "the deadline passed after " + std::to_string(answer.shards_answered) + " of " +
                     std::to_string(answer.shards_asked) + " shards, with nothing found; allow more time"};
  }
  return answer;
}

} // namespace embedcore::serving
