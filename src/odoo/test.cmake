# The live tests run against the stand-in, too.
target_link_libraries(odoo_test PRIVATE sandbox_odoo_lib)
