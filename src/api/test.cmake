target_compile_definitions(api_test PRIVATE SOURCE_DIR="${CMAKE_SOURCE_DIR}")
