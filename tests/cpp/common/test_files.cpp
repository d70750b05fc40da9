// Small files, written whole: what is read back, what is refused, what is left after a failure.
#include "common/files.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include "check.h"

using embedcore::Code;
using embedcore::read_file;
using embedcore::write_file;

namespace {

std::vector<std::byte> bytes_of(const char* text) {
  const auto* p = reinterpret_cast<const std::byte*>(text);
  return {p, p + std::strlen(text)};
}

std::filesystem::path fresh_folder(const char* name) {
  const auto folder = std::filesystem::temp_directory_path() / (std::string("embedcore_files_") + name);
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

} // namespace

TEST(files_replace_whole_and_leave_nothing_aside) {
  const auto folder = fresh_folder("replace");
  const std::string path = folder / "a";
  CHECK(write_file(path, bytes_of("first, and longer")).ok());
  CHECK(write_file(path, bytes_of("second")).ok());
  const auto back = read_file(path, 100);
  CHECK(back.ok() && back.value() == bytes_of("second"));
  CHECK(!std::filesystem::exists(path + ".tmp"));
  std::filesystem::remove_all(folder);
}

TEST(files_empty_is_a_file) {
  const auto folder = fresh_folder("empty");
  const std::string path = folder / "a";
  CHECK(write_file(path, {}).ok());
  const auto back = read_file(path, 0);
  CHECK(back.ok() && back.value().empty());
  std::filesystem::remove_all(folder);
}

TEST(files_failure_keeps_the_old_and_cleans_up) {
  const auto folder = fresh_folder("failure");
  CHECK(write_file((folder / "missing" / "a").string(), bytes_of("x")).error().code == Code::not_found);
  // A folder in the file's place: the rename fails after the write.
  const std::string path = folder / "taken";
  std::filesystem::create_directories(path + "/inside");
  CHECK(!write_file(path, bytes_of("x")).ok());
  CHECK(std::filesystem::is_directory(path));
  CHECK(!std::filesystem::exists(path + ".tmp"));
  std::filesystem::remove_all(folder);
}

TEST(files_read_refuses) {
  const auto folder = fresh_folder("read");
  const std::string path = folder / "a";
  CHECK(read_file(path, 10).error().code == Code::not_found);
  CHECK(write_file(path, bytes_of("eleven char")).ok());
  CHECK(read_file(path, 10).error().code == Code::invalid_argument);
  CHECK(read_file(path, 11).ok());
  CHECK(read_file(folder, 10).error().code == Code::invalid_argument);
  std::filesystem::remove_all(folder);
}
