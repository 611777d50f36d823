#include <dlfcn.h>

#include <cstdio>
#include <map>

#include "machine.h"

namespace emulator {

namespace {

std::string run(const std::string& command) {
  std::string said;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    char line[512];
    while (fgets(line, sizeof line, pipe)) said += line;
    pclose(pipe);
  }
  return said;
}

std::string hex(size_t number) {
  char digits[20];
  snprintf(digits, sizeof digits, "0x%zx", number);
  return digits;
}

// "/a/b.cuh:12 (discriminator 3)" to "b.cuh:12"
std::string without_folder(const std::string& line) {
  const std::string place = line.substr(0, line.find(' '));
  return place.substr(place.rfind('/') + 1);
}

bool worth_naming(const std::string& place) {
  for (const char* noise : {"??", "emulator.h"}) {
    if (place.find(noise) != std::string::npos) return false;
  }
  return !place.empty();
}

std::string find_position(const void* site) {
  Dl_info info;
  if (!site || !dladdr(site, &info) || !info.dli_fname) return "an unknown place";
  // The call returns to `site`; the instruction that called is before it.
  const size_t offset = static_cast<const char*>(site) - static_cast<const char*>(info.dli_fbase) - 1;
  const std::string said = run("addr2line -i -e '" + std::string(info.dli_fname) + "' " + hex(offset) + " 2>/dev/null");
  std::string position;
  for (size_t i = 0, end; (end = said.find('\n', i)) != std::string::npos; i = end + 1) {
    const std::string place = without_folder(said.substr(i, end - i));
    if (worth_naming(place)) position += (position.empty() ? "" : " in ") + place;
  }
  return position.empty() ? "an unknown place" : position;
}

}  // namespace

std::string source_position(const void* site) {
  static std::map<const void*, std::string> known;
  const auto [entry, fresh] = known.try_emplace(site);
  if (fresh) entry->second = find_position(site);
  return entry->second;
}

}  // namespace emulator
