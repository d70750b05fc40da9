// The Index as a face over its Impl: creation and the small questions.
#include "hnsw/index.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "hnsw/impl.h"
#include "hnsw/validate.h"

namespace embedcore::hnsw {

thread_local int Index::Impl::Pin::depth = 0;

Status Index::Impl::open() {
  const auto& chosen = chosen_kernels();
  if (!chosen.ok()) return chosen.error();
  kernels = chosen.value();
  if (Status s = storage.create(config); !s.ok()) return s;
  space.storage = &storage;
  space.dim = config.dim;
  space.metric = config.metric;
  space.lean = config.dtype == Dtype::int8 && config.codes == Codes::none;
  space.original_form = Originals(config).form();
  space.kernels = kernels;
  table =
      std::make_unique<IdTable>(IdHost{&storage, &epochs}, std::min(config.capacity, std::size_t{1} << 20));
  tree = std::make_unique<Tree>(storage, space);
  return {};
}

Result<std::shared_ptr<Index>> Index::create(const Config& wanted) {
  if (Status s = check_config(wanted); !s.ok()) return s.error();
  Config config = wanted;
  config.codes = settled_codes(config);
  auto impl = std::make_unique<Impl>(config);
  if (Status s = impl->open(); !s.ok()) return s.error();
  return std::shared_ptr<Index>(new Index(std::move(impl)));
}

Index::Index(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Index::~Index() = default;

const Config& Index::config() const { return impl_->config; }

Tag Index::tag() const {
  const std::lock_guard lock(impl_->tag_mutex);
  return impl_->tag;
}

void Index::set_tag(Tag tag) {
  const std::lock_guard lock(impl_->tag_mutex);
  impl_->tag = std::move(tag);
}

Status Index::add(std::span<const std::int64_t> ids, const float* vectors, unsigned threads,
                  const std::function<bool(std::size_t)>& keep_going) {
  return impl_->add(ids, vectors, threads, keep_going);
}

std::size_t Index::remove(std::span<const std::int64_t> ids) {
  std::size_t present = 0;
  for (const std::int64_t id : ids) present += impl_->remove(id) ? 1u : 0u;
  return present;
}

std::size_t Index::search(const float* query, std::size_t k, std::size_t ef, const IdFilter* filter,
                          std::int64_t* ids, float* distances, SearchStats* stats) const {
  return impl_->search(query, k, ef, filter, ids, distances, stats);
}

void Index::search_many(const float* queries, std::size_t n, std::size_t k, std::size_t ef,
                        const IdFilter* filter, std::int64_t* ids, float* distances,
                        SearchStats* stats) const {
  impl_->search_many(queries, n, k, ef, filter, ids, distances, stats);
}

void Index::range_search(const float* query, float radius, std::size_t ef, const IdFilter* filter,
                         std::vector<std::int64_t>& ids, std::vector<float>& distances) const {
  impl_->range_search(query, radius, ef, filter, ids, distances);
}

void Index::scores(const float* query, std::span<const std::int64_t> ids, float* distances) const {
  impl_->scores(query, ids, distances);
}

Status Index::get(std::span<const std::int64_t> ids, float* out) const {
  const Impl::Pin pin(*impl_);
  for (const std::int64_t id : ids) {
    const Slot slot = impl_->table->find(id);
    if (slot == no_slot) {
      return {Code::not_found, "id " + std::to_string(id) + " is not in the index; add it first"};
    }
    impl_->storage.load_original(slot, out);
    out += impl_->config.dim;
  }
  return {};
}

bool Index::contains(std::int64_t id) const {
  const Impl::Pin pin(*impl_);
  return impl_->table->find(id) != no_slot;
}

std::vector<std::int64_t> Index::ids() const {
  const Impl::Pin pin(*impl_); // so that no slot is reused while its id is read
  const std::vector<Slot> slots = impl_->table->slots();
  std::vector<std::int64_t> all;
  all.reserve(slots.size());
  for (const Slot slot : slots) all.push_back(impl_->storage.node(slot).id);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()),
            all.end()); // of an item met before and after it was replaced
  return all;
}

std::size_t Index::size() const { return impl_->live.load(std::memory_order_acquire); }
std::size_t Index::tombstones() const { return impl_->tombstones.load(std::memory_order_acquire); }
std::size_t Index::memory_bytes() const { return impl_->memory_bytes(); }

Report Index::repair(const Budget& budget) { return impl_->repair(budget); }
Report Index::compact(const Budget& budget) { return impl_->compact(budget); }
Report Index::relocate(const Budget& budget) { return impl_->relocate(budget); }
std::vector<std::string> Index::check() const { return impl_->check(); }
Stats Index::stats() const {
  Stats stats = impl_->stats();
  stats.verified = verified();
  return stats;
}

bool Index::verified() const { return impl_->verification == nullptr || impl_->verification->verified(); }
Status Index::health() const {
  if (impl_->verification == nullptr) [[likely]]
    return {};
  return impl_->verification->health();
}
Status Index::wait_verified() const {
  return impl_->verification == nullptr ? Status{} : impl_->verification->wait();
}

} // namespace embedcore::hnsw
