# UBSan makes the one Beast file compile for minutes, and finds nothing of ours there.
if(DRAGOMAN_SANITIZE MATCHES "undefined")
  set_source_files_properties(${CMAKE_SOURCE_DIR}/src/http/server.cpp PROPERTIES COMPILE_OPTIONS -fno-sanitize=undefined)
endif()
# TSan doesn't understand fences; asio's are not what its data is passed by.
if(DRAGOMAN_SANITIZE MATCHES "thread")
  set_source_files_properties(${CMAKE_SOURCE_DIR}/src/http/server.cpp PROPERTIES COMPILE_DEFINITIONS
    BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()
