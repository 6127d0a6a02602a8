# The real program is one of the things tested.
target_compile_definitions(app_test PRIVATE SOURCE_DIR="${CMAKE_SOURCE_DIR}" DRAGOMAN_PROGRAM="$<TARGET_FILE:dragoman>")
add_dependencies(app_test dragoman)
