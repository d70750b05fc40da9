#include "check.h"

int main(int argc, char** argv) { return embedcore::test::run_all(argc, argv); }
