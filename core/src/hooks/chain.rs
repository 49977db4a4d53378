//! The extensions of a hub, per hook in the order they are asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Extension, HookSet};

/// Which extensions have which hook; computed once, and again when a host says that it changed.
#[derive(Clone, Default)]
pub struct HookChain {
    present: Arc<AtomicU32>,
    extensions: Arc<[Arc<dyn Extension>]>,
}

impl HookChain {
    /// Orders the extensions by priority, higher first; the sort is stable as in Hocuspocus.
    pub fn new(extensions: Vec<Arc<dyn Extension>>) -> Self {
        let mut extensions = extensions;
        extensions.sort_by_key(|extension| std::cmp::Reverse(extension.priority()));
        let chain = Self { present: Arc::default(), extensions: extensions.into() };
        chain.refresh();
        chain
    }

    /// Asks the extensions again which hooks they have.
    pub fn refresh(&self) {
        let present = self.extensions.iter().fold(HookSet::empty(), |all, extension| all | extension.hooks());
        self.present.store(present.bits(), Ordering::Release);
    }

    /// Whether anybody has any of these hooks.
    pub fn wants(&self, hooks: HookSet) -> bool {
        self.present.load(Ordering::Acquire) & hooks.bits() != 0
    }

    /// The extensions that have this hook, in order.
    pub fn with(&self, hook: HookSet) -> impl Iterator<Item = &Arc<dyn Extension>> {
        self.extensions.iter().filter(move |extension| extension.hooks().contains(hook))
    }
}

impl fmt::Debug for HookChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.extensions.iter().map(|e| e.name())).finish()
    }
}

/// Asks every extension that has the hook, in order, until one says no or skips the rest. Evaluates to
/// a `Result<(), Rejection>`. The event is made by the caller, who asks [`HookChain::wants`] before.
macro_rules! run_hooks {
    ($chain:expr, $hook:ident, $method:ident, $event:expr) => {{
        let mut result = Ok(());
        for extension in $chain.with($crate::hooks::HookSet::$hook) {
            match extension.$method($event).await {
                Ok($crate::hooks::Flow::Continue) => {}
                Ok($crate::hooks::Flow::Skip) => break,
                Err(rejection) => {
                    tracing::debug!(extension = extension.name(), hook = stringify!($method), error = %rejection, "hook rejected");
                    result = Err(rejection);
                    break;
                }
            }
        }
        result
    }};
}
pub(crate) use run_hooks;

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str, i32, HookSet);

    impl Extension for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn hooks(&self) -> HookSet {
            self.2
        }
        fn priority(&self) -> i32 {
            self.1
        }
    }

    #[test]
    fn higher_priority_first_then_the_order_given() {
        let both = HookSet::ON_CHANGE | HookSet::ON_CONNECT;
        let chain = HookChain::new(vec![
            Arc::new(Named("a", 100, both)),
            Arc::new(Named("b", 1000, HookSet::ON_CHANGE)),
            Arc::new(Named("c", 100, HookSet::ON_CHANGE)),
        ]);
        let order = |hook| chain.with(hook).map(|e| e.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(order(HookSet::ON_CHANGE), ["b", "a", "c"]);
        assert_eq!(order(HookSet::ON_CONNECT), ["a"]);
        assert!(!chain.wants(HookSet::ON_STATELESS));
    }
}
